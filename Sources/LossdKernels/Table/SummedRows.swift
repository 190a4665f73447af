/// What the kernels add up over the elements of a row. d is |x - y + shift|, or |x| without y.
public enum RowSum: Sendable, BitwiseCopyable {
  /// Three sums: x x, x y and y y; without y the first alone.
  case products
  /// The sum of d; of d d; the largest d, NaN where one is.
  case magnitudes, squares, largest
  /// How many d are the row's limit, or NaN.
  case ties
}

/// Rows of one or two tensors that are added up, in float64 (twice that for float64). Either contiguous rows (`stride` 1),
/// `xStep` and `yStep` apart, or rows across memory (steps of 1), of which there are at most `columnsMax`.
public struct SummedRows {
  /// Rows across memory that are taken together.
  public static let columnsMax = 256
  /// What sums need room for beyond the rows.
  public static let padding = 16
  /// Of rows across memory: an accumulator for each vector, of at most 512 bytes, and 4 lanes or more in one.
  public static let scratchBytes = columnsMax / 4 * 512

  public var sum: RowSum
  public var x: UnsafeRawPointer
  public var y: UnsafeRawPointer?
  public var shift: Double
  public var count: Int
  public var size: Int
  public var xStep: Int
  public var yStep: Int
  public var stride: Int
  /// A number a row, for `ties`.
  public var limits: UnsafePointer<Double>?
  /// Sum k of row r goes to `k * room + r`; `room` is at least the rows and `padding`.
  public var sums: UnsafeMutablePointer<Double>
  public var room: Int
  /// `scratchBytes`, 64-byte-aligned, for rows across memory.
  public var scratch: UnsafeMutableRawPointer

  public init(
    _ sum: RowSum, x: UnsafeRawPointer, y: UnsafeRawPointer?, shift: Double = 0, count: Int,
    size: Int, xStep: Int, yStep: Int = 0, stride: Int = 1, limits: UnsafePointer<Double>? = nil,
    sums: UnsafeMutablePointer<Double>, room: Int, scratch: UnsafeMutableRawPointer
  ) {
    self.sum = sum
    self.x = x
    self.y = y
    self.shift = shift
    self.count = count
    self.size = size
    self.xStep = xStep
    self.yStep = yStep
    self.stride = stride
    self.limits = limits
    self.sums = sums
    self.room = room
    self.scratch = scratch
  }
}

/// What a row's result is made of, of an element d = x - y + shift, or x without y.
public enum RowSlope: Sendable, BitwiseCopyable {
  /// d itself.
  case linear
  /// 1, 0 or -1; 0 of NaN.
  case sign
  /// The sign where |d| is the row's limit, else 0.
  case signOfLargest
}

/// Half of what `MixedRows` computes: a number of the row times a slope of each element.
public struct RowTerm {
  public var slope: RowSlope
  public var x: UnsafeRawPointer
  public var y: UnsafeRawPointer?
  public var xStep: Int
  public var yStep: Int
  public var shift: Double
  /// A number a row each.
  public var factors: UnsafePointer<Double>
  public var limits: UnsafePointer<Double>?

  public init(
    _ slope: RowSlope, x: UnsafeRawPointer, y: UnsafeRawPointer? = nil, xStep: Int, yStep: Int = 0,
    shift: Double = 0, factors: UnsafePointer<Double>, limits: UnsafePointer<Double>? = nil
  ) {
    self.slope = slope
    self.x = x
    self.y = y
    self.xStep = xStep
    self.yStep = yStep
    self.shift = shift
    self.factors = factors
    self.limits = limits
  }
}

/// Rows that are the sum of one or two terms, computed in float64 and rounded once; they lie as those of `SummedRows`.
public struct MixedRows {
  public var first: RowTerm
  public var second: RowTerm?
  public var count: Int
  public var size: Int
  public var stride: Int
  public var output: UnsafeMutableRawPointer
  public var outputStep: Int

  public init(
    _ first: RowTerm, _ second: RowTerm? = nil, count: Int, size: Int, stride: Int = 1,
    output: UnsafeMutableRawPointer, outputStep: Int
  ) {
    self.first = first
    self.second = second
    self.count = count
    self.size = size
    self.stride = stride
    self.output = output
    self.outputStep = outputStep
  }
}
