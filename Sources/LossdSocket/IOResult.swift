/// What a read or write did.
public enum IOResult: Sendable, Equatable {
  /// This many, at least one; a write may have taken fewer than given.
  case bytes(Int)
  /// Nothing now; wait until the socket is ready.
  case wouldBlock
  /// The peer writes no more. Of reads only.
  case endOfFile
  /// The error number.
  case failed(Int32)
}
