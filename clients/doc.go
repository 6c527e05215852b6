// Package clients holds tests of programs and libraries that people use with
// AWS KMS, against a running Kastellan. It is a module of its own so that
// what they depend on stays out of the product.
package clients
