/// A borrowed tensor: row-major, no strides. Valid as long as whoever lends it says.
@frozen
public struct TensorView {
  /// The elements; may be nil when there are none.
  public let data: UnsafeMutableRawPointer?
  public let shape: UnsafeBufferPointer<Int64>
  public let count: Int
  public let dataType: DataType

  @inlinable
  public init(
    data: UnsafeMutableRawPointer?, shape: UnsafeBufferPointer<Int64>, count: Int,
    dataType: DataType
  ) {
    self.data = data
    self.shape = shape
    self.count = count
    self.dataType = dataType
  }

  @inlinable public var rank: Int { shape.count }
  @inlinable public var byteCount: Int { count * dataType.byteSize }

  /// Size of dimension `index`, from 0.
  @inlinable public func size(_ index: Int) -> Int { Int(shape[index]) }

  /// The elements as `T`. Only when `T` is what `dataType` says.
  @inlinable public func elements<T: BitwiseCopyable>(as type: T.Type) -> UnsafeMutablePointer<T> {
    // An empty tensor may have no memory; nobody reads through this pointer then.
    guard let data else { return UnsafeMutablePointer(bitPattern: AlignedBuffer.alignment)! }
    return data.assumingMemoryBound(to: type)
  }

  /// `float32 (3, 4)`, for error texts.
  public var description: String { "\(dataType) \(shapeText(shape))" }
}

/// `(3, 4)`, `(3,)`, `()`: a shape as Python prints it.
public func shapeText(_ shape: some Collection<Int64>) -> String {
  let sizes = shape.map { String($0) }
  return sizes.count == 1 ? "(\(sizes[0]),)" : "(" + sizes.joined(separator: ", ") + ")"
}

/// `count` elements of `shape`, or nil when a dimension is negative or the product of the
/// dimensions that are not 0, times `byteSize`, reaches 2^63.
public func checkedElementCount(_ shape: some Sequence<Int64>, byteSize: Int) -> Int? {
  var product = Int64(byteSize)
  var isEmpty = false
  for size in shape {
    if size < 0 { return nil }
    if size == 0 {
      isEmpty = true
      continue
    }
    let (next, overflow) = product.multipliedReportingOverflow(by: size)
    if overflow { return nil }
    product = next
  }
  return isEmpty ? 0 : Int(product) / byteSize
}
