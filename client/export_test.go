package client

// DataDir lets tests choose the environment of [DefaultDataDir].
var DataDir = dataDir
