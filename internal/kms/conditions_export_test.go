package kms

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// ConditionKeys are the names of all condition keys of the tables in lower case; families
// end in ":" or "/".
func ConditionKeys() []string {
	names := slices.Concat(slices.Collect(maps.Keys(keyConditions)), slices.Collect(maps.Keys(callConditions)), slices.Collect(maps.Keys(memberConditions)))
	for _, family := range conditionFamilies {
		names = append(names, family.prefix)
	}
	return names
}

// MemberCondition is a condition key of a permission with the member of requests that it shows.
type MemberCondition struct{ Key, Member, Absent, Permission string }

// MemberConditions are all of them.
func MemberConditions() (all []MemberCondition) {
	for key, m := range memberConditions {
		for _, permission := range m.permissions {
			all = append(all, MemberCondition{key, m.member, m.absent, permission})
		}
	}
	return all
}

// HasMember tells whether a request has a member that a condition key can show.
func HasMember(request any, member string) bool {
	t := reflect.TypeOf(request).Elem()
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("aws"), ","); name == member {
			v := reflect.New(t).Elem()
			return texts(fill(v.Field(i))) != nil
		}
	}
	return false
}

// fill gives a value of the type of v that is not zero.
func fill(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32:
		v.SetInt(1)
	}
	return v
}
