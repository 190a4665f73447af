/// The elementwise formulas that the kernels have, each documented in Core/Formulas. x, y and z are an element of each
/// operand.
public enum ElementFormulaID: Sendable, BitwiseCopyable {
  /// 1 / (1 + exp(-x)).
  case sigmoid
  /// Of a probability x and a target y; NaN where one is outside [0, 1].
  case binaryCrossEntropy
  /// Of a logit x and a target y.
  case binaryLogits
  /// The same with z the weight of the positive term.
  case weightedBinaryLogits
  /// x P(X <= x) for a standard normal X, and its approximation by tanh.
  case gelu, geluTanh
  case relu, hardTanh, threshold, leakyRelu, hardSigmoid, hardSwish, hardShrink, softShrink
  case elu, selu, silu, mish, softplus, logSigmoid
  case tanh, tanhshrink, softsign
  case erf, erfc, normalDistribution
  case log1p, expm1, exp2, logit, entropy
  case logNormalDistribution, sinc
  // Of two operands, without being losses.
  case prelu, glu, xLogY, xLog1pY
  // Losses of an input x and a target y.
  case absoluteError, squaredError, smoothL1, huber, logCosh, quantile
  case divergence, divergenceOfLogs, poissonOfLog, poisson, softMargin, hingeEmbedding
  case sigmoidFocal, asymmetric, pairwiseSigmoid
  // Losses of three operands.
  case gaussian, marginRanking
}

/// A formula's parameters, in the order of the function's attributes.
public struct ElementConstants: BitwiseCopyable {
  public var a: Double
  public var b: Double
  public var c: Double
  public var d: Double

  public init(_ a: Double = 0, _ b: Double = 0, _ c: Double = 0, _ d: Double = 0) {
    self.a = a
    self.b = b
    self.c = c
    self.d = d
  }
}

/// Elements of an activation or of a loss with their derivatives. The kernel returns the sum of the losses in the lanes'
/// precision, by which infinities and NaN are seen; 0 for an activation.
///
/// With w the weight and g the upstream gradient, a loss is w f(x, y, z) and its slope w scale g f'(x, y, z); an
/// activation is f(x, y) and its slope g f'(x, y).
public struct ElementCall {
  public var formula: ElementFormulaID
  public var x: UnsafeRawPointer
  /// Like x each; needed where the formula reads them.
  public var y: UnsafeRawPointer?
  public var z: UnsafeRawPointer?
  /// Like x; nil: ones. For losses alone.
  public var weight: UnsafeRawPointer?
  /// An upstream gradient each; nil: ones.
  public var upstream: UnsafeRawPointer?
  /// Like x each; nil: not wanted.
  public var values: UnsafeMutableRawPointer?
  /// Derivatives with respect to x, y and z.
  public var slopes: UnsafeMutableRawPointer?
  public var slopesOfY: UnsafeMutableRawPointer?
  public var slopesOfZ: UnsafeMutableRawPointer?
  /// Each loss, not rounded to 16 bits: float32, or float64 for float64; nil: not wanted.
  public var losses: UnsafeMutableRawPointer?
  public var constants: ElementConstants
  /// What every slope of a loss is multiplied by.
  public var scale: Double
  public var count: Int
  /// Whether results are written past the cache.
  public var isStreamed: Bool

  public init(
    _ formula: ElementFormulaID, x: UnsafeRawPointer, y: UnsafeRawPointer? = nil,
    z: UnsafeRawPointer? = nil, weight: UnsafeRawPointer? = nil, upstream: UnsafeRawPointer? = nil,
    values: UnsafeMutableRawPointer? = nil, slopes: UnsafeMutableRawPointer? = nil,
    slopesOfY: UnsafeMutableRawPointer? = nil, slopesOfZ: UnsafeMutableRawPointer? = nil,
    constants: ElementConstants = ElementConstants(),
    scale: Double = 1, count: Int, isStreamed: Bool = false
  ) {
    self.formula = formula
    self.x = x
    self.y = y
    self.z = z
    self.weight = weight
    self.upstream = upstream
    self.values = values
    self.slopes = slopes
    self.slopesOfY = slopesOfY
    self.slopesOfZ = slopesOfZ
    self.constants = constants
    self.scale = scale
    self.count = count
    self.isStreamed = isStreamed
  }
}
