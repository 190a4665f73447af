/// How a file's elements lie, where that is not row-major and little-endian.
struct ElementOrder: Equatable, Sendable {
  /// Fortran order: the first dimension is the one whose elements are neighbours.
  var isColumnMajor = false
  /// Each element's most significant byte comes first.
  var isBigEndian = false

  static let native = ElementOrder()
}

/// Copies rows of a tensor in another order into row-major, little-endian memory.
struct RowCopy {
  /// Rows copied at once, so that the destination's lines stay in the cache while each column is
  /// read.
  private static let tileBytes = 128 << 10

  let order: ElementOrder
  let elementBytes: Int
  /// All dimensions of the file's tensor, at least one, none of them 0.
  let shape: [Int]

  /// Copies rows `rows`. `source`: the whole tensor as it lies in the file. `destination`: as long
  /// as the rows are.
  func copy(
    rows: Range<Int>, from source: UnsafeRawBufferPointer,
    to destination: UnsafeMutableRawBufferPointer
  ) {
    switch elementBytes {
    case 1: copy(rows, source, destination, UInt8.self)
    case 2: copy(rows, source, destination, UInt16.self)
    case 4: copy(rows, source, destination, UInt32.self)
    default: copy(rows, source, destination, UInt64.self)
    }
  }

  private func copy<Bits: FixedWidthInteger & BitwiseCopyable>(
    _ rows: Range<Int>, _ source: UnsafeRawBufferPointer,
    _ destination: UnsafeMutableRawBufferPointer, _ type: Bits.Type
  ) {
    let columns = shape.dropFirst().reduce(1, *)
    precondition(
      destination.count == rows.count * columns * MemoryLayout<Bits>.size
        && source.count == shape[0] * columns * MemoryLayout<Bits>.size)
    guard let from = source.baseAddress, let to = destination.baseAddress, !rows.isEmpty else {
      return
    }
    if !order.isColumnMajor {
      move(
        from + rows.lowerBound * columns * MemoryLayout<Bits>.size, to, type, 1,
        rows.count * columns)
      return
    }
    // As many rows at once as the cache has room for: of each column a run of them lies together in
    // the file.
    let tile = max(RowCopy.tileBytes / (columns * MemoryLayout<Bits>.size), 16)
    var begin = rows.lowerBound
    while begin < rows.upperBound {
      let count = min(tile, rows.upperBound - begin)
      let place = to + (begin - rows.lowerBound) * columns * MemoryLayout<Bits>.size
      var column = Column(shape.dropFirst())
      for index in 0..<columns {
        move(
          from + (index * shape[0] + begin) * MemoryLayout<Bits>.size,
          place + column.flat * MemoryLayout<Bits>.size, type, columns, count)
        column.advance()
      }
      begin += count
    }
  }

  /// `count` neighbours to places that are `stride` elements apart.
  @inline(__always)
  private func move<Bits: FixedWidthInteger & BitwiseCopyable>(
    _ source: UnsafeRawPointer, _ destination: UnsafeMutableRawPointer, _ type: Bits.Type,
    _ stride: Int, _ count: Int
  ) {
    let size = MemoryLayout<Bits>.size
    let isSwapped = order.isBigEndian && size > 1
    for index in 0..<count {
      let bits = source.loadUnaligned(fromByteOffset: index * size, as: Bits.self)
      destination.storeBytes(
        of: isSwapped ? bits.byteSwapped : bits, toByteOffset: index * stride * size, as: Bits.self)
    }
  }

  /// Walks over the places of a row in Fortran order, and says where each is in row-major order.
  private struct Column {
    private let sizes: [Int]
    private let strides: [Int]
    private var place: [Int]
    private(set) var flat = 0

    init(_ sizes: ArraySlice<Int>) {
      self.sizes = Array(sizes)
      place = Array(repeating: 0, count: sizes.count)
      var strides = Array(repeating: 1, count: sizes.count)
      for index in stride(from: sizes.count - 2, through: 0, by: -1) {
        strides[index] = strides[index + 1] * self.sizes[index + 1]
      }
      self.strides = strides
    }

    mutating func advance() {
      for index in sizes.indices {
        place[index] += 1
        flat += strides[index]
        if place[index] < sizes[index] { return }
        flat -= place[index] * strides[index]
        place[index] = 0
      }
    }
  }
}
