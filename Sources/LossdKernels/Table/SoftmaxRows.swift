/// Softmax or log-softmax of rows, and its gradient: p (g - sum(g p)), or g - p sum(g), with p the softmax
/// and g the upstream gradient.
public struct SoftmaxRows {
  public var x: UnsafeRawPointer
  /// Like x; nil: ones.
  public var upstream: UnsafeRawPointer?
  /// Like x each; nil: not wanted.
  public var output: UnsafeMutableRawPointer?
  public var gradient: UnsafeMutableRawPointer?
  public var rows: StridedRows
  public var isLogarithmic: Bool
  /// `StridedRows.scratchBytes`, 64-byte-aligned.
  public var scratch: UnsafeMutableRawPointer
  /// Whether results are written past the cache.
  public var isStreamed: Bool

  public init(
    x: UnsafeRawPointer, upstream: UnsafeRawPointer?, output: UnsafeMutableRawPointer?,
    gradient: UnsafeMutableRawPointer?, rows: StridedRows, isLogarithmic: Bool,
    scratch: UnsafeMutableRawPointer, isStreamed: Bool
  ) {
    self.x = x
    self.upstream = upstream
    self.output = output
    self.gradient = gradient
    self.rows = rows
    self.isLogarithmic = isLogarithmic
    self.scratch = scratch
    self.isStreamed = isStreamed
  }
}
