// LossdKernelTable: what a build of the vector kernels offers, as plain function pointers, so that
// baseline code calls AVX2 code without sharing anything with it.

/// One build's kernels for one type of tensors, which all raw pointers of elements are of. 16-bit
/// types are widened and narrowed in registers; results are rounded once from float32 or wider
/// (float64 for float64), within 3 ulp elementwise. Pointers need no alignment. An output may be
/// the input `x` itself, but must not overlap any input otherwise. No function allocates; all may
/// be called on any thread.
///
/// Results that are streamed go past the cache: `settle` is to be called in the end.
///
/// Infinities and NaN among the inputs of a row or of a block of elements make its loss infinite or
/// NaN; which of the two, and what else they spoil, is the scalar reference's to say.
public struct KernelTable: Sendable {
  /// A struct of its parameters: `RowCall`, `SummedRows` or `MixedRows`.
  public typealias Kernel = @convention(c) (UnsafeRawPointer) -> Void
  /// An `ElementCall`; returns the sum of the losses in the lanes' precision, which is infinite or NaN where one of
  /// them is. An `AlignmentStep`; returns what its probabilities are divided by.
  public typealias Loss = @convention(c) (UnsafeRawPointer) -> Double
  /// A `LabelBlock`; returns how many are kept, or -1 where a label is out of range.
  public typealias Labels = @convention(c) (UnsafeRawPointer) -> Int
  /// x, y, count.
  public typealias Elementwise =
    @convention(c) (UnsafeRawPointer, UnsafeMutableRawPointer, Int) -> Void
  /// x, count, where the maximum goes: the sum of exp(x - maximum) of one row.
  public typealias RowSum =
    @convention(c) (UnsafeRawPointer, Int, UnsafeMutablePointer<Double>) -> Double
  /// x, y, count, maximum, factor: y = factor exp(x - maximum), for x <= maximum and a factor of at
  /// least 1e-30 (float64: 1e-285).
  /// Here elements are of the lanes' type, as `widen` makes them; the same goes for `RowSum`.
  public typealias ScaledExponentials =
    @convention(c) (UnsafeRawPointer, UnsafeMutableRawPointer, Int, Double, Double) -> Void

  /// x, y, count, factor: y = factor exp(x).
  public typealias WeightedExponentials =
    @convention(c) (UnsafeRawPointer, UnsafeMutableRawPointer, Int, Double) -> Void

  /// Numbers of the lanes' type, count (at most 1024), where three float64 go: their sum is exactly that of the numbers.
  /// False where three do not hold it.
  public typealias ExactSum =
    @convention(c) (UnsafeRawPointer, Int, UnsafeMutablePointer<Double>) -> Bool

  public let rows: Kernel
  public let exactSum: ExactSum
  public let elements: Loss
  public let labels: Labels
  /// nil but in float64's table.
  public let alignment: Loss?
  public let summedRows: Kernel
  public let mixedRows: Kernel
  public let sumOfExponentials: RowSum
  public let scaledExponentials: ScaledExponentials
  public let exp: Elementwise
  public let weightedExp: WeightedExponentials
  public let log: Elementwise
  public let log1p: Elementwise
  /// From elements to float32 (float64 for float64), exactly; and back, to nearest with ties to
  /// even.
  public let widen: Elementwise
  public let narrow: Elementwise
  /// Makes results that were streamed visible to other threads: to be called before these are told
  /// of them.
  public let settle: @convention(c) () -> Void

  public init(
    rows: @escaping Kernel, exactSum: @escaping ExactSum, elements: @escaping Loss,
    labels: @escaping Labels, alignment: Loss?,
    summedRows: @escaping Kernel,
    mixedRows: @escaping Kernel, sumOfExponentials: @escaping RowSum,
    scaledExponentials: @escaping ScaledExponentials, exp: @escaping Elementwise,
    weightedExp: @escaping WeightedExponentials, log: @escaping Elementwise,
    log1p: @escaping Elementwise, widen: @escaping Elementwise,
    narrow: @escaping Elementwise, settle: @escaping @convention(c) () -> Void
  ) {
    self.rows = rows
    self.exactSum = exactSum
    self.elements = elements
    self.labels = labels
    self.alignment = alignment
    self.summedRows = summedRows
    self.mixedRows = mixedRows
    self.sumOfExponentials = sumOfExponentials
    self.scaledExponentials = scaledExponentials
    self.exp = exp
    self.weightedExp = weightedExp
    self.log = log
    self.log1p = log1p
    self.widen = widen
    self.narrow = narrow
    self.settle = settle
  }
}
