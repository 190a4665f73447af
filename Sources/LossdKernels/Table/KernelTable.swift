// LossdKernelTable: what a build of the vector kernels offers, as plain function pointers, so that
// baseline code calls AVX2 code without sharing anything with it.

/// One build's kernels for one type, float32 or float64, which all raw pointers are of. Results are
/// rounded once from that type's arithmetic or wider, within 3 ulp elementwise, and specials (infinities,
/// NaN, zeros, denormals) follow the formulas of the scalar reference. Pointers need no alignment; inputs
/// and outputs of one call may be equal, but not overlap otherwise. No function allocates, and all may be
/// called on any thread.
public struct KernelTable: Sendable {
  public typealias Input = UnsafeRawPointer
  public typealias Output = UnsafeMutableRawPointer

  /// x, y, rows, columns: softmax along contiguous rows.
  public typealias Rows = @convention(c) (Input, Output, Int, Int) -> Void
  /// x, upstream gradient or nil for ones, gradient, rows, columns.
  public typealias RowsBackward = @convention(c) (Input, Input?, Output, Int, Int) -> Void
  /// y = softmax or log-softmax, upstream gradient or nil for ones, gradient, rows, columns. The gradient
  /// may be y.
  public typealias RowsFromOutput = @convention(c) (Input, Input?, Output, Int, Int) -> Void
  /// x, count, where the maximum goes: the sum of exp(x - maximum) of one row.
  public typealias RowSum =
    @convention(c) (Input, Int, UnsafeMutablePointer<Double>) -> Double
  /// x, y, size of the dimension, distance between its elements, how many columns next to one another.
  public typealias Columns = @convention(c) (Input, Output, Int, Int, Int) -> Void
  /// x, upstream or nil, gradient, size, distance, columns.
  public typealias ColumnsBackward = @convention(c) (Input, Input?, Output, Int, Int, Int) -> Void
  /// x, y, count.
  public typealias Elementwise = @convention(c) (Input, Output, Int) -> Void
  /// x, upstream or nil, gradient, count.
  public typealias ElementwiseBackward = @convention(c) (Input, Input?, Output, Int) -> Void
  /// A `CrossEntropyRows` or `ProbabilityRows`.
  public typealias CrossEntropy = @convention(c) (UnsafeRawPointer) -> Void
  /// A `BinaryElements`; returns the sum of the losses.
  public typealias Binary = @convention(c) (UnsafeRawPointer) -> Double

  public let softmax: Rows
  public let logSoftmax: Rows
  public let softmaxBackward: RowsBackward
  public let logSoftmaxBackward: RowsBackward
  public let softmaxGradient: RowsFromOutput
  public let logSoftmaxGradient: RowsFromOutput
  public let sumOfExponentials: RowSum
  public let softmaxColumns: Columns
  public let logSoftmaxColumns: Columns
  public let softmaxColumnsBackward: ColumnsBackward
  public let logSoftmaxColumnsBackward: ColumnsBackward
  public let crossEntropy: CrossEntropy
  public let crossEntropyOfProbabilities: CrossEntropy
  public let exp: Elementwise
  public let log: Elementwise
  public let log1p: Elementwise
  public let sigmoid: Elementwise
  public let sigmoidBackward: ElementwiseBackward
  public let binaryLogits: Binary
  public let binaryProbabilities: Binary

  public init(
    softmax: @escaping Rows, logSoftmax: @escaping Rows, softmaxBackward: @escaping RowsBackward,
    logSoftmaxBackward: @escaping RowsBackward, softmaxGradient: @escaping RowsFromOutput,
    logSoftmaxGradient: @escaping RowsFromOutput,
    sumOfExponentials: @escaping RowSum, softmaxColumns: @escaping Columns,
    logSoftmaxColumns: @escaping Columns, softmaxColumnsBackward: @escaping ColumnsBackward,
    logSoftmaxColumnsBackward: @escaping ColumnsBackward, crossEntropy: @escaping CrossEntropy,
    crossEntropyOfProbabilities: @escaping CrossEntropy, exp: @escaping Elementwise,
    log: @escaping Elementwise, log1p: @escaping Elementwise, sigmoid: @escaping Elementwise,
    sigmoidBackward: @escaping ElementwiseBackward, binaryLogits: @escaping Binary,
    binaryProbabilities: @escaping Binary
  ) {
    self.softmax = softmax
    self.logSoftmax = logSoftmax
    self.softmaxBackward = softmaxBackward
    self.logSoftmaxBackward = logSoftmaxBackward
    self.softmaxGradient = softmaxGradient
    self.logSoftmaxGradient = logSoftmaxGradient
    self.sumOfExponentials = sumOfExponentials
    self.softmaxColumns = softmaxColumns
    self.logSoftmaxColumns = logSoftmaxColumns
    self.softmaxColumnsBackward = softmaxColumnsBackward
    self.logSoftmaxColumnsBackward = logSoftmaxColumnsBackward
    self.crossEntropy = crossEntropy
    self.crossEntropyOfProbabilities = crossEntropyOfProbabilities
    self.exp = exp
    self.log = log
    self.log1p = log1p
    self.sigmoid = sigmoid
    self.sigmoidBackward = sigmoidBackward
    self.binaryLogits = binaryLogits
    self.binaryProbabilities = binaryProbabilities
  }
}
