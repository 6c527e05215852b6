// Package awsquery speaks the AWS query protocol: requests are HTML forms, answers
// are XML. The structures are those of the API packages, with the tags that
// package kmsapi documents.
//
// A form is decoded by way of AWS JSON, so that constraints are checked in one
// place and errors have the same texts. The package refuses a parameter that is
// given twice, and a part of a list that the list does not reach: what is not
// understood could have been meant as a restriction.
package awsquery
