// Package policy parses policy documents and evaluates them. It is pure: no
// input or output, no clock, no state.
//
// A document is compiled when it is parsed, so that [Evaluate] allocates
// nothing. Principals and conditions are parsed and kept but not evaluated
// yet. Until they are, a statement that has them can deny but not allow, and
// [ParseIdentity] refuses them outright: what is not evaluated must never widen
// access, nor narrow it without telling.
//
// The package refuses JSON that is not plain: unknown members, members given
// twice, trailing data, invalid UTF-8.
package policy
