import LossdTensor

/// A tensor in a mapped file, row-major and little-endian. Its elements are read where they lie; the
/// value keeps the file mapped. The bytes of a .safetensors tensor may be unaligned.
public struct StoredTensor: Sendable {
  public let dataType: DataType
  /// Dimensions, none negative; empty for a scalar. The elements lie within the file.
  public let shape: [Int]
  private let file: MappedFile
  private let offset: Int

  /// `offset` is in bytes; that all elements lie within the file has been checked.
  init(dataType: DataType, shape: [Int], file: MappedFile, offset: Int) {
    self.dataType = dataType
    self.shape = shape
    self.file = file
    self.offset = offset
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

  /// Lends `body` the elements of rows `rows` (all when nil) where they lie, for as long as it runs.
  /// `rows` lies within 0..<rowCount.
  public func withBytes<Result, Failure: Error>(
    ofRows rows: Range<Int>? = nil, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    defer { withExtendedLifetime(file) {} }
    return try body(unsafeBytes(ofRows: rows ?? 0..<rowCount))
  }

  /// The elements of rows `rows` where they lie. The compiler may end this value's life after its
  /// last use, and the pointer's with it: hold a copy of the value beside the pointer, as in
  /// `withExtendedLifetime`. For writes that go on after the caller returns; else `withBytes`.
  public func unsafeBytes(ofRows rows: Range<Int>) -> UnsafeRawBufferPointer {
    precondition(rows.lowerBound >= 0 && rows.upperBound <= rowCount)
    let start = offset + rows.lowerBound * rowByteCount
    let end = start + rows.count * rowByteCount
    return UnsafeRawBufferPointer(rebasing: file.unsafeBytes[start..<end])
  }

  /// A copy of all elements in memory of its own, 64-byte-aligned.
  public func tensor() -> Tensor { withBytes { copy($0, shape) } }

  /// A copy of rows `rows`; their tensor's first dimension is `rows.count`. Not for scalars.
  public func tensor(ofRows rows: Range<Int>) -> Tensor {
    precondition(!shape.isEmpty, "a scalar has no rows")
    return withBytes(ofRows: rows) { copy($0, [rows.count] + rowShape) }
  }

  private func copy(_ source: UnsafeRawBufferPointer, _ shape: [Int]) -> Tensor {
    let buffer = AlignedBuffer(count: source.count)
    buffer.bytes.copyMemory(from: source)
    return Tensor(dataType: dataType, shape: shape, buffer: buffer)
  }
}
