// Package stsapi holds the wire types of the AWS Security Token Service (version
// 2011-06-15) and its error codes. The tags are those that package kmsapi
// documents; the query protocol writes names and values of the same model.
//
// It refuses to know what credentials are made of: that is package sts.
package stsapi

// Version is the API's, as requests and the XML namespace have it.
const Version = "2011-06-15"

// Namespace is that of the answers' XML.
const Namespace = "https://sts.amazonaws.com/doc/2011-06-15/"
