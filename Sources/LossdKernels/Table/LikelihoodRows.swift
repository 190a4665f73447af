/// Negative log likelihood with class indices: the loss of a row is -w x_y, its gradient -w s at the label
/// and 0 at all other classes, with w the row's weight and s its scale.
public struct LikelihoodRows {
  public var x: UnsafeRawPointer
  /// Like x; nil: not wanted.
  public var gradient: UnsafeMutableRawPointer?
  public var rows: StridedRows
  /// The class of each row, checked; -1: ignored.
  public var labels: UnsafePointer<Int32>
  /// The weight of each row's class; nil: 1.
  public var rowWeights: UnsafePointer<Double>?
  /// What each row's gradient is multiplied by; nil: `scale`.
  public var scales: UnsafePointer<Double>?
  public var scale: Double
  /// The loss of each row, 0 for an ignored one; nil: not wanted.
  public var losses: UnsafeMutablePointer<Double>?
  /// Whether the gradient is written past the cache.
  public var isStreamed: Bool

  public init(
    x: UnsafeRawPointer, gradient: UnsafeMutableRawPointer?, rows: StridedRows,
    labels: UnsafePointer<Int32>, rowWeights: UnsafePointer<Double>?,
    scales: UnsafePointer<Double>?, scale: Double, losses: UnsafeMutablePointer<Double>?,
    isStreamed: Bool
  ) {
    self.x = x
    self.gradient = gradient
    self.rows = rows
    self.labels = labels
    self.rowWeights = rowWeights
    self.scales = scales
    self.scale = scale
    self.losses = losses
    self.isStreamed = isStreamed
  }
}
