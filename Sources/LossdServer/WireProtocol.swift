/// What can be spoken on a connection: its first bytes say which.
public enum WireProtocol: String, Sendable, CaseIterable {
  /// lossd's own wire.
  case lossd
  /// gRPC over HTTP/2.
  case grpc
}
