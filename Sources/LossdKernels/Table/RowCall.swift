/// The formulas of rows that the kernels have, each documented in Core/Formulas.
public enum RowFormulaID: Sendable, BitwiseCopyable {
  case softmax, logSoftmax
  /// Losses of class indices: of logits, and of log-probabilities.
  case crossEntropy, likelihood
  /// A loss of logits with class probabilities.
  case probabilities
}

/// Rows and what is computed of them: values and gradients like x, or a loss each with its
/// gradient.
///
/// Rows across memory that are too long for a tile are computed block by block, along the memory,
/// in steps of their own: softmax and log-softmax of at least 16 rows. A block is some elements of
/// each of some neighbouring rows.
public struct RowCall {
  public enum Step: BitwiseCopyable {
    /// Whole rows.
    case rows
    /// A block's part of each row, into `sums`; and, once these are merged, a block's results from
    /// them.
    case blockSums, blockResults
  }

  public var formula: RowFormulaID
  public var step: Step
  public var x: UnsafeRawPointer
  /// Like x: the upstream gradient, nil: ones; or the target's probabilities.
  public var y: UnsafeRawPointer?
  /// Like x each; nil: not wanted.
  public var values: UnsafeMutableRawPointer?
  public var gradient: UnsafeMutableRawPointer?
  public var rows: StridedRows
  /// `StridedRows.scratchBytes`, of blocks `blockScratchBytes`, 64-byte-aligned.
  public var scratch: UnsafeMutableRawPointer
  /// Whether results are written past the cache.
  public var isStreamed: Bool
  public var classes: RowClasses
  /// Of blocks.
  public var sums: BlockSums?

  public init(
    _ formula: RowFormulaID, x: UnsafeRawPointer, y: UnsafeRawPointer? = nil,
    values: UnsafeMutableRawPointer? = nil, gradient: UnsafeMutableRawPointer? = nil,
    rows: StridedRows, classes: RowClasses = RowClasses(), scratch: UnsafeMutableRawPointer,
    isStreamed: Bool = false, step: Step = .rows, sums: BlockSums? = nil
  ) {
    self.formula = formula
    self.step = step
    self.sums = sums
    self.x = x
    self.y = y
    self.values = values
    self.gradient = gradient
    self.rows = rows
    self.classes = classes
    self.scratch = scratch
    self.isStreamed = isStreamed
  }
}

/// What losses know of their rows and classes.
public struct RowClasses {
  /// The class of each row, checked; -1: ignored. Needed by losses of class indices.
  public var labels: UnsafePointer<Int32>?
  /// The weight of each row's class; nil: 1.
  public var rowWeights: UnsafePointer<Double>?
  /// What each row's gradient is multiplied by; nil: `scale`.
  public var scales: UnsafePointer<Double>?
  public var scale: Double
  /// The loss of each row, 0 for an ignored one; needed by losses.
  public var losses: UnsafeMutablePointer<Double>?
  /// The weights of the classes, of x's type; nil: ones. With class indices for smoothing alone.
  public var weights: UnsafeRawPointer?
  /// The sum of the weights of all classes, for class indices.
  public var weightSum: Double
  public var smoothing: Double

  public init(
    labels: UnsafePointer<Int32>? = nil, rowWeights: UnsafePointer<Double>? = nil,
    scales: UnsafePointer<Double>? = nil, scale: Double = 1,
    losses: UnsafeMutablePointer<Double>? = nil, weights: UnsafeRawPointer? = nil,
    weightSum: Double = 0, smoothing: Double = 0
  ) {
    self.labels = labels
    self.rowWeights = rowWeights
    self.scales = scales
    self.scale = scale
    self.losses = losses
    self.weights = weights
    self.weightSum = weightSum
    self.smoothing = smoothing
  }
}

/// Each row's numbers, of a block or of the whole row: with m the largest element that is not NaN,
/// m and the sum of exp(x - m); of nothing but -infinity the sum is 0.
public struct BlockSums {
  public var maxima: UnsafeMutablePointer<Double>
  public var sums: UnsafeMutablePointer<Double>
  /// Of a block with an upstream gradient g the sum of g exp(x - m), or of g alone; of whole rows
  /// what upstream gradients are less of, or the sum of them.
  public var dots: UnsafeMutablePointer<Double>

  public init(
    maxima: UnsafeMutablePointer<Double>, sums: UnsafeMutablePointer<Double>,
    dots: UnsafeMutablePointer<Double>
  ) {
    self.maxima = maxima
    self.sums = sums
    self.dots = dots
  }
}
