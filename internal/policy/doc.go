// Package policy is the IAM policy language: it reads policy documents and
// decides requests by them, as AWS documents that IAM does. It is pure: no
// input or output, no clock, no state.
//
// A document is compiled when it is read, so that [Decide] allocates nothing
// and asks only the statements that may be about the action. Each kind of
// policy has its own function to read it and its own rules. What would
// silently mean something else than it says is refused: unknown members and
// members given twice, unknown operators, values that are not of their
// operator's type, principals that cannot exist, trailing data, invalid UTF-8.
package policy
