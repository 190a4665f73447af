// LossdKernelTable: what a build of the vector kernels offers, as plain function pointers, so that
// baseline code calls AVX2 code without sharing anything with it.

/// One build's kernels. All are float32; results are rounded once from float32 or wider arithmetic,
/// within 3 ulp elementwise, and specials (infinities, NaN, zeros, denormals) follow the formulas of
/// the scalar reference. Pointers need no alignment; inputs and outputs of one call may be equal, but not
/// overlap otherwise. No function allocates, and all may be called on any thread.
public struct KernelTable: Sendable {
  public typealias Input = UnsafePointer<Float>
  public typealias Output = UnsafeMutablePointer<Float>

  /// x, y, rows, columns: softmax along contiguous rows.
  public typealias Rows = @convention(c) (Input, Output, Int, Int) -> Void
  /// x, upstream gradient or nil for ones, gradient, rows, columns.
  public typealias RowsBackward = @convention(c) (Input, Input?, Output, Int, Int) -> Void
  /// y = softmax or log-softmax, upstream gradient or nil for ones, gradient, rows, columns. The gradient
  /// may be y.
  public typealias RowsFromOutput = @convention(c) (Input, Input?, Output, Int, Int) -> Void
  /// x, y, size of the dimension, distance between its elements, how many columns next to one another.
  public typealias Columns = @convention(c) (Input, Output, Int, Int, Int) -> Void
  /// x, upstream or nil, gradient, size, distance, columns.
  public typealias ColumnsBackward = @convention(c) (Input, Input?, Output, Int, Int, Int) -> Void
  /// x, y, count.
  public typealias Elementwise = @convention(c) (Input, Output, Int) -> Void
  /// x, upstream or nil, gradient, count.
  public typealias ElementwiseBackward = @convention(c) (Input, Input?, Output, Int) -> Void
  /// A `CrossEntropyRows`.
  public typealias CrossEntropy = @convention(c) (UnsafeRawPointer) -> Void
  /// A `BinaryElements`; returns the sum of the losses.
  public typealias BinaryLogits = @convention(c) (UnsafeRawPointer) -> Double
  /// Whether all elements lie in [0, 1].
  public typealias RangeCheck = @convention(c) (Input, Int) -> Bool
  public typealias Widen = @convention(c) (UnsafePointer<UInt16>, Output, Int) -> Void
  public typealias Narrow = @convention(c) (Input, UnsafeMutablePointer<UInt16>, Int) -> Void

  public let name: String
  public let softmax: Rows
  public let logSoftmax: Rows
  public let softmaxBackward: RowsBackward
  public let logSoftmaxBackward: RowsBackward
  public let softmaxGradient: RowsFromOutput
  public let logSoftmaxGradient: RowsFromOutput
  public let softmaxColumns: Columns
  public let logSoftmaxColumns: Columns
  public let softmaxColumnsBackward: ColumnsBackward
  public let logSoftmaxColumnsBackward: ColumnsBackward
  public let crossEntropy: CrossEntropy
  public let sigmoid: Elementwise
  public let sigmoidBackward: ElementwiseBackward
  public let binaryLogits: BinaryLogits
  public let binaryProbabilities: BinaryLogits
  public let isProbability: RangeCheck
  public let widenHalf: Widen
  public let narrowHalf: Narrow
  public let widenBFloat: Widen
  public let narrowBFloat: Narrow

  public init(
    name: String, softmax: @escaping Rows, logSoftmax: @escaping Rows,
    softmaxBackward: @escaping RowsBackward, logSoftmaxBackward: @escaping RowsBackward,
    softmaxGradient: @escaping RowsFromOutput, logSoftmaxGradient: @escaping RowsFromOutput,
    softmaxColumns: @escaping Columns, logSoftmaxColumns: @escaping Columns,
    softmaxColumnsBackward: @escaping ColumnsBackward,
    logSoftmaxColumnsBackward: @escaping ColumnsBackward, crossEntropy: @escaping CrossEntropy,
    sigmoid: @escaping Elementwise, sigmoidBackward: @escaping ElementwiseBackward,
    binaryLogits: @escaping BinaryLogits, binaryProbabilities: @escaping BinaryLogits,
    isProbability: @escaping RangeCheck, widenHalf: @escaping Widen,
    narrowHalf: @escaping Narrow, widenBFloat: @escaping Widen, narrowBFloat: @escaping Narrow
  ) {
    self.name = name
    self.softmax = softmax
    self.logSoftmax = logSoftmax
    self.softmaxBackward = softmaxBackward
    self.logSoftmaxBackward = logSoftmaxBackward
    self.softmaxGradient = softmaxGradient
    self.logSoftmaxGradient = logSoftmaxGradient
    self.softmaxColumns = softmaxColumns
    self.logSoftmaxColumns = logSoftmaxColumns
    self.softmaxColumnsBackward = softmaxColumnsBackward
    self.logSoftmaxColumnsBackward = logSoftmaxColumnsBackward
    self.crossEntropy = crossEntropy
    self.sigmoid = sigmoid
    self.sigmoidBackward = sigmoidBackward
    self.binaryLogits = binaryLogits
    self.binaryProbabilities = binaryProbabilities
    self.isProbability = isProbability
    self.widenHalf = widenHalf
    self.narrowHalf = narrowHalf
    self.widenBFloat = widenBFloat
    self.narrowBFloat = narrowBFloat
  }
}

/// Cross entropy with class indices. Position i of `count` has its classes at `x[i * step + c * stride]`:
/// contiguous rows (`stride` 1, `step` the number of classes), or columns next to one another (`step` 1).
public struct CrossEntropyRows {
  public var x: UnsafePointer<Float>
  /// Like x; nil: no gradient wanted.
  public var gradient: UnsafeMutablePointer<Float>?
  /// The class of each position, checked; -1: ignored.
  public var labels: UnsafePointer<Int32>
  /// The weight of each position's class; 0 for an ignored one.
  public var rowWeights: UnsafePointer<Float>
  /// What each position's gradient is multiplied by; nil without a gradient.
  public var scales: UnsafePointer<Double>?
  /// The loss of each position; 0 for an ignored one.
  public var losses: UnsafeMutablePointer<Double>
  /// The weights of the classes; nil: ones. Needed for smoothing alone.
  public var classWeights: UnsafePointer<Float>?
  /// The sum of the weights of all classes.
  public var classWeightSum: Double
  public var smoothing: Double
  public var count: Int
  public var classes: Int
  public var step: Int
  public var stride: Int

  public init(
    x: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>?,
    labels: UnsafePointer<Int32>, rowWeights: UnsafePointer<Float>,
    scales: UnsafePointer<Double>?, losses: UnsafeMutablePointer<Double>,
    classWeights: UnsafePointer<Float>?, classWeightSum: Double, smoothing: Double, count: Int,
    classes: Int, step: Int, stride: Int
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

/// Elements of binary cross entropy, of logits or of probabilities; the kernel returns the sum of the
/// losses.
public struct BinaryElements {
  public var x: UnsafePointer<Float>
  public var target: UnsafePointer<Float>
  /// Like x each; nil: ones.
  public var weight: UnsafePointer<Float>?
  public var posWeight: UnsafePointer<Float>?
  /// Like x each; nil: not wanted.
  public var losses: UnsafeMutablePointer<Float>?
  public var gradient: UnsafeMutablePointer<Float>?
  /// An upstream gradient each; nil: `scale` alone.
  public var upstream: UnsafePointer<Float>?
  /// What every gradient is multiplied by.
  public var scale: Float
  public var count: Int
  /// Of logits: -y logsigmoid(x) - (1 - y) logsigmoid(-x), which at -infinity is not the same as torch's
  /// formula for with_logits.
  public var isSymmetric: Bool

  public init(
    x: UnsafePointer<Float>, target: UnsafePointer<Float>, weight: UnsafePointer<Float>?,
    posWeight: UnsafePointer<Float>?, losses: UnsafeMutablePointer<Float>?,
    gradient: UnsafeMutablePointer<Float>?, upstream: UnsafePointer<Float>?, scale: Float,
    count: Int, isSymmetric: Bool = false
  ) {
    self.x = x
    self.target = target
    self.weight = weight
    self.posWeight = posWeight
    self.losses = losses
    self.gradient = gradient
    self.upstream = upstream
    self.scale = scale
    self.count = count
    self.isSymmetric = isSymmetric
  }
}
