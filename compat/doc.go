// Package compat holds Microsoft's real clients against a booted server: the
// scripts in page/ make the calls of the page "Create an Azure Machine Learning
// compute cluster", those in sdkv1/ the rest of what SDK v1 can do. Nothing in a
// script knows of Ebb; each runs under "ebb exec".
package compat
