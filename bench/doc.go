// Package bench measures the numbers that Ebb promises, each side by side with
// a peer or a physical limit taken in the same run, and prints one table:
//
//	make bench
//
// Machines are noisy: quote the ratios. Nothing here fails for being slow.
package bench
