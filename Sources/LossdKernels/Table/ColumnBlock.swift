/// A block of long rows that lie across memory: some elements of each of some neighbouring rows. Rows too
/// long for a tile are computed block by block, along the memory: first each block's sums, then, once these
/// are merged, its results.
public struct ColumnBlock {
  public var x: UnsafeRawPointer
  /// Like x; nil: ones.
  public var upstream: UnsafeRawPointer?
  /// Rows, at least 16; element c of row i of the block is at `i + c * stride`.
  public var columns: Int
  /// Elements of each row in this block.
  public var size: Int
  public var stride: Int
  /// 64-byte-aligned, for `ColumnBlock.scratchBytes`.
  public var scratch: UnsafeMutableRawPointer

  public init(
    x: UnsafeRawPointer, upstream: UnsafeRawPointer?, columns: Int, size: Int, stride: Int,
    scratch: UnsafeMutableRawPointer
  ) {
    self.x = x
    self.upstream = upstream
    self.columns = columns
    self.size = size
    self.stride = stride
    self.scratch = scratch
  }

  public static func scratchBytes(columns: Int) -> Int { 5 * (columns + 16) * 8 }
}

/// Each row's part of a block, in the order of the rows: with m the largest element that is not NaN, the sum of
/// exp(x - m), and that of g exp(x - m), or of g alone. Of nothing but -infinity the sums are 0.
public struct ColumnSums {
  public var block: ColumnBlock
  public var maxima: UnsafeMutablePointer<Double>
  public var sums: UnsafeMutablePointer<Double>
  /// Set where there is an upstream gradient.
  public var shares: UnsafeMutablePointer<Double>
  public var isLogarithmic: Bool

  public init(
    block: ColumnBlock, maxima: UnsafeMutablePointer<Double>, sums: UnsafeMutablePointer<Double>,
    shares: UnsafeMutablePointer<Double>, isLogarithmic: Bool
  ) {
    self.block = block
    self.maxima = maxima
    self.sums = sums
    self.shares = shares
    self.isLogarithmic = isLogarithmic
  }
}

/// Softmax or log-softmax of a block, and its gradient, from what is known of its whole rows, a float64 each.
public struct ColumnResults {
  public var block: ColumnBlock
  /// Like x each; nil: not wanted.
  public var output: UnsafeMutableRawPointer?
  public var gradient: UnsafeMutableRawPointer?
  public var maxima: UnsafePointer<Double>
  /// The sum of exp(x - maximum).
  public var sums: UnsafePointer<Double>
  /// What upstream gradients are less of, or the sum of them.
  public var dots: UnsafePointer<Double>
  public var isLogarithmic: Bool
  /// Whether results are written past the cache.
  public var isStreamed: Bool

  public init(
    block: ColumnBlock, output: UnsafeMutableRawPointer?, gradient: UnsafeMutableRawPointer?,
    maxima: UnsafePointer<Double>, sums: UnsafePointer<Double>, dots: UnsafePointer<Double>,
    isLogarithmic: Bool, isStreamed: Bool
  ) {
    self.block = block
    self.output = output
    self.gradient = gradient
    self.maxima = maxima
    self.sums = sums
    self.dots = dots
    self.isLogarithmic = isLogarithmic
    self.isStreamed = isStreamed
  }
}
