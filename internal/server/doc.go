// Package server answers AWS JSON 1.1 over HTTP: it joins the listener, the
// signature, the codec and tables of operations. It knows no keys and no
// domain; an [Operation] is a name and a function.
//
// A request to an API is handled in this order, and the first that fails
// answers: method, path and content type; size of the body; number of requests
// at once; JSON grammar (SerializationException); target
// (UnknownOperationException); signature; types and constraints; the operation.
// So nobody learns anything but the grammar of JSON and the names of operations
// without a signature.
//
// GET /healthz is served without one to everybody, GET /metrics to this machine
// and to the addresses of Config.MetricsFrom.
//
// The package refuses plain HTTP beyond the loopback interface unless it is
// asked for by name, TLS below 1.2, bodies over a limit, and connections,
// requests and memory beyond theirs. It never logs a body, and answers an error
// that is not a *kmsapi.Error with no detail.
package server
