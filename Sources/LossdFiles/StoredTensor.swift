import LossdTensor

/// A tensor in a mapped file; the value keeps the file mapped. What is row-major and little-endian
/// can be read where it lies; `tensor` copies elements of any order into row-major, little-endian
/// memory, also a few rows at a time, so that a file may be larger than memory. The bytes of a
/// .safetensors tensor may be unaligned.
public struct StoredTensor: Sendable {
  public let dataType: DataType
  /// Dimensions, none negative; empty for a scalar. The elements lie within the file.
  public let shape: [Int]
  private let file: MappedFile
  private let offset: Int
  private let order: ElementOrder

  /// `offset` is in bytes; that all elements lie within the file has been checked.
  init(
    dataType: DataType, shape: [Int], file: MappedFile, offset: Int, order: ElementOrder = .native
  ) {
    self.dataType = dataType
    self.shape = shape
    self.file = file
    self.offset = offset
    // One order for what reads the same in both: it then needs no copy.
    let isColumnMajor = order.isColumnMajor && shape.count { $0 != 1 } > 1
    self.order = ElementOrder(
      isColumnMajor: isColumnMajor, isBigEndian: order.isBigEndian && dataType.byteSize > 1)
    precondition(offset >= 0 && byteCount <= file.count - offset)
  }

  /// The file's path.
  public var path: String { file.path }

  public var count: Int { shape.reduce(1, *) }
  public var byteCount: Int { count * dataType.byteSize }

  /// The size of the first dimension; a scalar is one row.
  public var rowCount: Int { shape.first ?? 1 }
  /// The shape of one row: all dimensions but the first.
  public var rowShape: ArraySlice<Int> { shape.dropFirst() }
  /// Bytes of one row.
  public var rowByteCount: Int { rowShape.reduce(dataType.byteSize, *) }

  /// Whether the elements lie in the file as lossd takes them: row-major and little-endian.
  public var isInPlace: Bool { order == .native || count == 0 }

  /// Lends `body` the elements of rows `rows` (all when nil) where they lie, for as long as it
  /// runs. `rows` lies within 0..<rowCount. Only where `isInPlace`.
  public func withBytes<Result, Failure: Error>(
    ofRows rows: Range<Int>? = nil, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    defer { withExtendedLifetime(file) {} }
    return try body(unsafeBytes(ofRows: rows ?? 0..<rowCount))
  }

  /// The elements of rows `rows` where they lie. The compiler may end this value's life after its
  /// last use, and the pointer's with it: hold a copy of the value beside the pointer, as in
  /// `withExtendedLifetime`. For writes that go on after the caller returns; else `withBytes`. Only
  /// where `isInPlace`.
  public func unsafeBytes(ofRows rows: Range<Int>) -> UnsafeRawBufferPointer {
    precondition(isInPlace, "elements in another order are copied, not lent")
    precondition(rows.lowerBound >= 0 && rows.upperBound <= rowCount)
    let start = offset + rows.lowerBound * rowByteCount
    let end = start + rows.count * rowByteCount
    return UnsafeRawBufferPointer(rebasing: file.unsafeBytes[start..<end])
  }

  /// A copy of all elements in memory of its own, 64-byte-aligned.
  public func tensor() -> Tensor { copy(0..<rowCount, shape) }

  /// A copy of rows `rows`; their tensor's first dimension is `rows.count`. Not for scalars.
  public func tensor(ofRows rows: Range<Int>) -> Tensor {
    precondition(!shape.isEmpty, "a scalar has no rows")
    precondition(rows.lowerBound >= 0 && rows.upperBound <= rowCount)
    return copy(rows, [rows.count] + rowShape)
  }

  private func copy(_ rows: Range<Int>, _ shape: [Int]) -> Tensor {
    let buffer = AlignedBuffer(count: shape.reduce(dataType.byteSize, *))
    copy(rows: rows, to: buffer.bytes)
    return Tensor(dataType: dataType, shape: shape, buffer: buffer)
  }

  /// Reads rows `rows`, row-major and little-endian, to `destination`, which is as long as they
  /// are: by a system call where they lie like that in the file, which costs less than a look at
  /// each page of a mapping for the first time. Throws where the file cannot be read, or has become
  /// shorter.
  public func read(
    rows: Range<Int>, to destination: UnsafeMutableRawBufferPointer
  ) throws(FileError) {
    precondition(rows.lowerBound >= 0 && rows.upperBound <= rowCount)
    precondition(destination.count == rows.count * rowByteCount)
    if !isInPlace { return copy(rows: rows, to: destination) }
    if destination.isEmpty { return }
    try file.read(at: offset + rows.lowerBound * rowByteCount, to: destination)
  }

  /// Copies rows `rows`, row-major and little-endian, to `destination`, which is as long as they
  /// are.
  public func copy(rows: Range<Int>, to destination: UnsafeMutableRawBufferPointer) {
    defer { withExtendedLifetime(file) {} }
    if isInPlace {
      destination.copyMemory(from: unsafeBytes(ofRows: rows))
      return
    }
    let all = UnsafeRawBufferPointer(rebasing: file.unsafeBytes[offset..<offset + byteCount])
    // A scalar is one row without columns.
    RowCopy(order: order, elementBytes: dataType.byteSize, shape: shape.isEmpty ? [1] : shape)
      .copy(rows: rows, from: all, to: destination)
  }
}
