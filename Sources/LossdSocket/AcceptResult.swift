/// What `ListeningSocket.accept` found.
public enum AcceptResult: ~Copyable {
  case accepted(Descriptor)
  /// Nobody waits.
  case wouldBlock
  /// Descriptors or memory are used up; the connection still waits.
  case exhausted(Int32)
  /// That connection died while it waited; try the next.
  case aborted(Int32)
  /// The listening socket itself is broken.
  case failed(Int32)
}
