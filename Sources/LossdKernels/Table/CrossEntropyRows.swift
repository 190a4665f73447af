/// Cross entropy with class indices. With p = softmax(x), w the weights of the classes, W their sum, e the
/// smoothing, C classes and y the label, the loss of a row is
///   (1 - e) w_y (lse - x_y) + e / C sum_c w_c (lse - x_c)
/// and its gradient, times the row's scale s,
///   s ((1 - e) w_y + e W / C) p_c - s (1 - e) w_y [c = y] - s e w_c / C.
public struct CrossEntropyRows {
  public var x: UnsafeRawPointer
  /// Like x; nil: no gradient wanted.
  public var gradient: UnsafeMutableRawPointer?
  public var rows: StridedRows
  /// The class of each row, checked; -1: ignored.
  public var labels: UnsafePointer<Int32>
  /// The weight of each row's class; nil: 1.
  public var rowWeights: UnsafePointer<Double>?
  /// What each row's gradient is multiplied by; nil: `scale`.
  public var scales: UnsafePointer<Double>?
  public var scale: Double
  /// The loss of each row; 0 for an ignored one.
  public var losses: UnsafeMutablePointer<Double>
  /// The weights of the classes, of x's type; nil: ones. Needed for smoothing alone.
  public var classWeights: UnsafeRawPointer?
  /// The sum of the weights of all classes.
  public var classWeightSum: Double
  public var smoothing: Double
  /// `StridedRows.scratchBytes`, 64-byte-aligned.
  public var scratch: UnsafeMutableRawPointer
  /// Whether the gradient is written past the cache.
  public var isStreamed: Bool

  public init(
    x: UnsafeRawPointer, gradient: UnsafeMutableRawPointer?, rows: StridedRows,
    labels: UnsafePointer<Int32>, rowWeights: UnsafePointer<Double>?,
    scales: UnsafePointer<Double>?, scale: Double, losses: UnsafeMutablePointer<Double>,
    classWeights: UnsafeRawPointer?, classWeightSum: Double, smoothing: Double,
    scratch: UnsafeMutableRawPointer, isStreamed: Bool
  ) {
    self.x = x
    self.gradient = gradient
    self.rows = rows
    self.labels = labels
    self.rowWeights = rowWeights
    self.scales = scales
    self.scale = scale
    self.losses = losses
    self.classWeights = classWeights
    self.classWeightSum = classWeightSum
    self.smoothing = smoothing
    self.scratch = scratch
    self.isStreamed = isStreamed
  }
}
