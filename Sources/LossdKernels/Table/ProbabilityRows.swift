/// Cross entropy with class probabilities. With t the target, e the smoothing, C classes, w the weights and
/// v_c = w_c (t_c (1 - e) + e / C), the loss of a row is sum_c v_c (lse - x_c) and its gradient, times the
/// row's scale, softmax(x)_c sum(v) - v_c.
public struct ProbabilityRows {
  public var x: UnsafeRawPointer
  /// Like x.
  public var target: UnsafeRawPointer
  /// Like x; nil: no gradient wanted.
  public var gradient: UnsafeMutableRawPointer?
  public var rows: StridedRows
  /// What each row's gradient is multiplied by; nil: `scale`.
  public var scales: UnsafePointer<Double>?
  public var scale: Double
  /// The loss of each row.
  public var losses: UnsafeMutablePointer<Double>
  /// The weights of the classes, of x's type; nil: ones.
  public var classWeights: UnsafeRawPointer?
  public var smoothing: Double
  /// `StridedRows.scratchBytes`, 64-byte-aligned.
  public var scratch: UnsafeMutableRawPointer
  /// Whether the gradient is written past the cache.
  public var isStreamed: Bool

  public init(
    x: UnsafeRawPointer, target: UnsafeRawPointer, gradient: UnsafeMutableRawPointer?,
    rows: StridedRows, scales: UnsafePointer<Double>?, scale: Double,
    losses: UnsafeMutablePointer<Double>, classWeights: UnsafeRawPointer?, smoothing: Double,
    scratch: UnsafeMutableRawPointer, isStreamed: Bool
  ) {
    self.x = x
    self.target = target
    self.gradient = gradient
    self.rows = rows
    self.scales = scales
    self.scale = scale
    self.losses = losses
    self.classWeights = classWeights
    self.smoothing = smoothing
    self.scratch = scratch
    self.isStreamed = isStreamed
  }
}
