import LossdTensor

/// A tensor's type and shape, checked: what its bytes must look like, not where they are.
public struct TensorLayout {
  /// Dimensions at most.
  public static let maxRank = 64

  public let dataType: DataType
  public let shape: UnsafeBufferPointer<Int64>
  /// Elements.
  public let count: Int

  public var byteCount: Int { count * dataType.byteSize }

  /// `bytes` rounded up to where the next tensor of a payload may start.
  public static func align64(_ bytes: Int) -> Int { (bytes + 63) & ~63 }
}

/// Checks that `offset` and `length`, bytes as a peer said them, are a tensor of `elementCount`
/// elements of `byteSize` bytes within `payloadLength` bytes. `name` is the tensor's, for the text.
public func validateRange(
  _ name: @autoclosure () -> String, offset: UInt64, length: UInt64, payloadLength: Int,
  elementCount: Int, byteSize: Int, place: StaticString = "payload"
) throws(StatusError) {
  let size = UInt64(elementCount) * UInt64(byteSize)
  if length != size {
    throw StatusError(
      .invalidArgument,
      "\(name()): \(place) length is \(length), expected \(size) (\(elementCount) elements of "
        + "\(byteSize) bytes)")
  }
  // An empty tensor may stand at the very end, which need not be a multiple of 64.
  if length == 0 && offset == UInt64(payloadLength) { return }
  if offset % 64 != 0 {
    throw StatusError(
      .invalidArgument, "\(name()): \(place) offset is \(offset), expected a multiple of 64")
  }
  // Subtracted, not added: the sum may wrap around.
  if offset > UInt64(payloadLength) || length > UInt64(payloadLength) - offset {
    throw StatusError(
      .invalidArgument,
      "\(name()): \(place) offset \(offset) and length \(length) lie outside the \(place) of "
        + "\(payloadLength) bytes")
  }
}
