// Package pool is the unit of deciding: all clusters, nodes and runs that share
// one engine instance. [View] is what is; Decide says what to do about it.
//
// It is pure: the same view and time always give the same plan.
package pool
