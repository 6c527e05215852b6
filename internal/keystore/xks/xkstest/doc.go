// Package xkstest is an XKS proxy for tests, which can misbehave.
//
// [New] starts it on 127.0.0.1 with TLS, a CA of its own and real AES-GCM keys;
// it verifies signatures as a proxy has to. By itself it does everything right and
// fails the test if a request breaks the specification. [Proxy.Fail] makes
// it do something wrong: answer with errors or nonsense, late, in drops, or not at all;
// [Proxy.OnConnection] does the same below HTTP. [Proxy.Requests] tells what was asked.
package xkstest
