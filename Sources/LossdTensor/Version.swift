/// The version of the daemon, its programs and its clients in Swift: a copy of the file VERSION,
/// made by `make version`.
public let lossdVersion = "0.1.0"
