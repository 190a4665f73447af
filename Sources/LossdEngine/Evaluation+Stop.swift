import Synchronization

extension Evaluation {
  /// Whether it has been asked to stop: what is done for it besides computing ends, too. Any
  /// thread.
  public var isAskedToStop: Bool { stopped.load(ordering: .relaxed) }
}
