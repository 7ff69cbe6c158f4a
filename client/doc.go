// Package client is the Go client of an Ebb server: it finds the client file,
// gets tokens, follows pages and long-running operations, and rides out a
// restart of the server. The CLI is built on it, and on nothing else of Ebb's.
//
//	f, err := client.Load(client.Find(""))
//	c, err := client.New(f, client.Options{})
//	for compute, err := range c.Computes().All(ctx) { … }
//
// It speaks the public API only: Azure's Resource Manager shapes, run history
// for a job's error, and /ebb/v1 for what Azure has no call for. Every request
// may be sent twice: names are the caller's, so that a repeated one is the same.
package client
