// Package lab has what the benchmarks share: processes that serve mounts, mounts, the machine's caches, programs and what
// they work with, and figures.
package lab
