/// A tensor that owns its elements or shares them with others for reading: row-major, no strides.
/// For clients, files and tests; the request path works on borrowed memory.
public struct Tensor: Sendable {
  public let dataType: DataType
  /// Dimensions, none negative; empty for a scalar.
  public let shape: [Int]
  /// Holds the elements from `offset` bytes on.
  public let buffer: AlignedBuffer
  public let offset: Int

  public var count: Int { shape.reduce(1, *) }
  public var byteCount: Int { count * dataType.byteSize }

  /// Valid as long as `buffer` lives, which may end at its last use: keep the tensor alive around
  /// the use of the pointer with `withExtendedLifetime`.
  public var bytes: UnsafeRawBufferPointer {
    .init(start: buffer.base + offset, count: byteCount)
  }

  /// A view of `buffer`; the elements must lie within it.
  public init(dataType: DataType, shape: [Int], buffer: AlignedBuffer, offset: Int = 0) {
    precondition(shape.allSatisfy { $0 >= 0 })
    self.dataType = dataType
    self.shape = shape
    self.buffer = buffer
    self.offset = offset
    precondition(offset >= 0 && offset + byteCount <= buffer.capacity)
  }

  /// A copy of elements of a Swift type.
  public init<T: FloatElement>(_ elements: [T], shape: [Int]? = nil) {
    self.init(copying: elements, T.dataType, shape)
  }

  public init<T: IntegerElement>(_ elements: [T], shape: [Int]? = nil) {
    self.init(copying: elements, T.dataType, shape)
  }

  private init<T>(copying elements: [T], _ dataType: DataType, _ shape: [Int]?) {
    let shape = shape ?? [elements.count]
    precondition(shape.reduce(1, *) == elements.count, "shape and elements differ")
    let buffer = AlignedBuffer(count: elements.count * MemoryLayout<T>.stride)
    elements.withUnsafeBytes { buffer.bytes.copyMemory(from: $0) }
    self.init(dataType: dataType, shape: shape, buffer: buffer)
  }

  /// Every element widened to Double (int64 beyond 2^53 is rounded).
  public var doubles: [Double] {
    let base = UnsafeRawPointer(buffer.base + offset)
    return (0..<count).map { widenedElement(base, dataType, at: $0) }
  }

  /// The one element of a scalar or of a tensor of one element, nil for others.
  public var scalar: Double? {
    count == 1 ? widenedElement(UnsafeRawPointer(buffer.base + offset), dataType, at: 0) : nil
  }
}
