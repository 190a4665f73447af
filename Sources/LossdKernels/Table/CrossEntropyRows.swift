/// Cross entropy with class indices. Position i of `count` has its classes at `x[i * step + c * stride]`:
/// contiguous rows (`stride` 1, `step` the number of classes), or columns next to one another (`step` 1).
public struct CrossEntropyRows {
  public var x: UnsafeRawPointer
  /// Like x; nil: no gradient wanted. May be x.
  public var gradient: UnsafeMutableRawPointer?
  /// The class of each position, checked; -1: ignored.
  public var labels: UnsafePointer<Int32>
  /// The weight of each position's class; 0 for an ignored one.
  public var rowWeights: UnsafePointer<Double>
  /// What each position's gradient is multiplied by; nil without a gradient.
  public var scales: UnsafePointer<Double>?
  /// The loss of each position; 0 for an ignored one.
  public var losses: UnsafeMutablePointer<Double>
  /// The weights of the classes, of x's type; nil: ones. Needed for smoothing alone.
  public var classWeights: UnsafeRawPointer?
  /// The sum of the weights of all classes.
  public var classWeightSum: Double
  public var smoothing: Double
  public var count: Int
  public var classes: Int
  public var step: Int
  public var stride: Int

  public init(
    x: UnsafeRawPointer, gradient: UnsafeMutableRawPointer?, labels: UnsafePointer<Int32>,
    rowWeights: UnsafePointer<Double>, scales: UnsafePointer<Double>?,
    losses: UnsafeMutablePointer<Double>, classWeights: UnsafeRawPointer?,
    classWeightSum: Double, smoothing: Double, count: Int, classes: Int, step: Int, stride: Int
  ) {
    self.x = x
    self.gradient = gradient
    self.labels = labels
    self.rowWeights = rowWeights
    self.scales = scales
    self.losses = losses
    self.classWeights = classWeights
    self.classWeightSum = classWeightSum
    self.smoothing = smoothing
    self.count = count
    self.classes = classes
    self.step = step
    self.stride = stride
  }
}
