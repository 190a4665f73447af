/// Elements of sigmoid, s = 1 / (1 + exp(-x)), and of its gradient, g s (1 - s).
public struct SigmoidElements {
  public var x: UnsafeRawPointer
  /// An upstream gradient each; nil: ones.
  public var upstream: UnsafeRawPointer?
  /// Like x each; nil: not wanted.
  public var output: UnsafeMutableRawPointer?
  public var gradient: UnsafeMutableRawPointer?
  public var count: Int
  /// Whether results are written past the cache.
  public var isStreamed: Bool

  public init(
    x: UnsafeRawPointer, upstream: UnsafeRawPointer?, output: UnsafeMutableRawPointer?,
    gradient: UnsafeMutableRawPointer?, count: Int, isStreamed: Bool
  ) {
    self.x = x
    self.upstream = upstream
    self.output = output
    self.gradient = gradient
    self.count = count
    self.isStreamed = isStreamed
  }
}
