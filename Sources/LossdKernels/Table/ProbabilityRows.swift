/// Cross entropy with class probabilities; positions as in `CrossEntropyRows`.
public struct ProbabilityRows {
  public var x: UnsafeRawPointer
  /// Like x, of its type; not the same memory as the gradient.
  public var target: UnsafeRawPointer
  /// Like x; nil: no gradient wanted. May be x.
  public var gradient: UnsafeMutableRawPointer?
  /// What each position's gradient is multiplied by; nil without a gradient.
  public var scales: UnsafePointer<Double>?
  /// The loss of each position.
  public var losses: UnsafeMutablePointer<Double>
  /// The weights of the classes, of x's type; nil: ones.
  public var classWeights: UnsafeRawPointer?
  public var smoothing: Double
  public var count: Int
  public var classes: Int
  public var step: Int
  public var stride: Int

  public init(
    x: UnsafeRawPointer, target: UnsafeRawPointer, gradient: UnsafeMutableRawPointer?,
    scales: UnsafePointer<Double>?, losses: UnsafeMutablePointer<Double>,
    classWeights: UnsafeRawPointer?, smoothing: Double, count: Int, classes: Int, step: Int,
    stride: Int
  ) {
    self.x = x
    self.target = target
    self.gradient = gradient
    self.scales = scales
    self.losses = losses
    self.classWeights = classWeights
    self.smoothing = smoothing
    self.count = count
    self.classes = classes
    self.step = step
    self.stride = stride
  }
}
