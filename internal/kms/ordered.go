package kms

import (
	"iter"
	"slices"
	"strings"
)

// stretch is how many records of an ordered lie together at most: what is
// moved to make room for one.
const stretch = 512

// ordered holds records in the order of their storage keys, so that a page of
// a long list costs no more than one of a short list. The zero value, and nil
// for reading, is empty.
type ordered[T stored] struct {
	stretches [][]T // in order, none of them empty
	size      int
}

// search gives the place of a storage key: in which stretch, where in it, and
// whether there is a record. The stretch is one too far for what comes after everything.
func (o *ordered[T]) search(path string) (i, at int, found bool) {
	i, _ = slices.BinarySearchFunc(o.stretches, path, func(s []T, path string) int {
		return strings.Compare(s[len(s)-1].path(), path)
	})
	if i == len(o.stretches) {
		return i, 0, false
	}
	at, found = slices.BinarySearchFunc(o.stretches[i], path, func(r T, path string) int {
		return strings.Compare(r.path(), path)
	})
	return i, at, found
}

// put takes a record in, in place of one with the same storage key.
func (o *ordered[T]) put(rec T) {
	i, at, found := o.search(rec.path())
	if found {
		o.stretches[i][at] = rec
		return
	}
	o.size++
	if i == len(o.stretches) {
		if i == 0 || len(o.stretches[i-1]) == stretch {
			o.stretches = append(o.stretches, []T{rec})
			return
		}
		i--
		at = len(o.stretches[i])
	}
	o.stretches[i] = slices.Insert(o.stretches[i], at, rec)
	if s := o.stretches[i]; len(s) > stretch {
		half := len(s) / 2
		o.stretches = slices.Insert(o.stretches, i+1, slices.Clone(s[half:]))
		o.stretches[i] = slices.Delete(s, half, len(s))
	}
}

// remove takes a record out, if it is there.
func (o *ordered[T]) remove(path string) {
	i, at, found := o.search(path)
	if !found {
		return
	}
	o.size--
	o.stretches[i] = slices.Delete(o.stretches[i], at, at+1)
	if len(o.stretches[i]) == 0 {
		o.stretches = slices.Delete(o.stretches, i, i+1)
	}
}

// get finds a record by its storage key.
func (o *ordered[T]) get(path string) (rec T, ok bool) {
	if o == nil {
		return rec, false
	}
	i, at, found := o.search(path)
	if !found {
		return rec, false
	}
	return o.stretches[i][at], true
}

// after gives the records whose storage keys are greater than path.
func (o *ordered[T]) after(path string) iter.Seq[T] {
	return func(yield func(T) bool) {
		if o == nil {
			return
		}
		i, at, found := o.search(path)
		if found {
			at++
		}
		for ; i < len(o.stretches); i, at = i+1, 0 {
			for _, rec := range o.stretches[i][at:] {
				if !yield(rec) {
					return
				}
			}
		}
	}
}

// len counts the records.
func (o *ordered[T]) len() int {
	if o == nil {
		return 0
	}
	return o.size
}

// putInto takes a record into one of several lists.
func putInto[K comparable, T stored](lists map[K]*ordered[T], key K, rec T) {
	list := lists[key]
	if list == nil {
		list = new(ordered[T])
		lists[key] = list
	}
	list.put(rec)
}

// removeFrom takes a record out of one of several lists.
func removeFrom[K comparable, T stored](lists map[K]*ordered[T], key K, rec T) {
	list := lists[key]
	list.remove(rec.path())
	if list.len() == 0 {
		delete(lists, key)
	}
}

// first gives the first n of what may be many.
func first[T any](n int, all iter.Seq[T]) []T {
	var out []T
	for v := range all {
		if len(out) == n {
			break
		}
		out = append(out, v)
	}
	return out
}
