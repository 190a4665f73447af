/// Where rows lie, in elements: element c of row i is at `i * step + c * stride`. Either contiguous
/// rows (`stride` 1), or rows across memory that begin next to one another (`step` 1).
public struct StridedRows {
  public var count: Int
  /// Elements of a row.
  public var size: Int
  public var step: Int
  public var stride: Int

  public init(count: Int, size: Int, step: Int, stride: Int) {
    self.count = count
    self.size = size
    self.step = step
    self.stride = stride
  }

  /// Rows up to this many elements are computed as many at a time as there are lanes.
  public static let shortRow = 32
  /// What a tile of rows across memory holds: it is to stay in the second-level cache, together
  /// with what is read and written next to it.
  private static let tileElements = 64 << 10
  /// Rows of such a tile: at least the lanes of two vectors, a cache line or two.
  private static let tileRowsMin = 32
  private static let tileRowsMax = 256
  /// At most so many lanes.
  private static let lanesMax = 16

  /// Rows across memory that are computed together: whole vectors.
  public static func tileRows(size: Int) -> Int {
    let rows = tileElements / max(size, 1)
    return min(max(rows / tileRowsMin * tileRowsMin, tileRowsMin), tileRowsMax)
  }

  /// Bytes of scratch that a kernel needs for rows of this size.
  public static func scratchBytes(size: Int, isContiguous: Bool, isDouble: Bool) -> Int {
    // No memory holds a longer row, and no product overflows.
    let size = min(size, 1 << 48)
    let scalar = isDouble ? 8 : 4
    if isContiguous {
      // Three rows, the one before, the one that is computed and the next, with room for a vector
      // more.
      return size <= shortRow ? 0 : 3 * ((size + 15) / 16 * 16 + 16) * scalar
    }
    // The last tile takes what is less than a vector; beside it four numbers a row.
    return (tileRows(size: size) + 2 * lanesMax) * (size + 4) * scalar
  }

  /// Bytes of scratch for a block of so many rows.
  public static func blockScratchBytes(columns: Int) -> Int { 5 * (columns + 16) * 8 }
}
