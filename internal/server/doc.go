// Package server answers AWS JSON 1.1 over HTTP: it joins the listener, the
// signature, the codec and tables of operations. It knows no keys and no
// domain; an [Operation] is a name and a function.
//
// A request to an API is handled in this order, and the first that fails
// answers: method and path; size of the body; number of requests at once;
// JSON grammar (SerializationException); target (UnknownOperationException);
// signature; types and constraints; the operation. So nobody learns anything
// but the grammar of JSON and the names of operations without a signature.
//
// GET /healthz and GET /metrics are served without one.
//
// The package refuses plain HTTP beyond the loopback interface unless it is
// asked for by name, TLS below 1.2, and bodies over a limit. It never logs a
// body, and answers an error that is not a *kmsapi.Error with no detail.
package server
