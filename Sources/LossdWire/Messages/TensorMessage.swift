import CLossdProto
import LossdTensor

/// Where a tensor's bytes are. Offsets and lengths in bytes, as the peer said them: unchecked.
public enum TensorStorage {
  case none
  /// In the message itself. Not aligned to 64 bytes; valid until the message's arena is reset.
  case inline(UnsafeRawBufferPointer)
  /// In the frame's payload.
  case payload(offset: UInt64, length: UInt64)
  /// In a region of shared memory.
  case shared(region: UInt64, offset: UInt64, length: UInt64)
}

/// A tensor as a message describes it: a view, valid until the message's arena is reset. Nothing in
/// it has been checked; `layout` and `validated` do.
public struct TensorMessage {
  let raw: UnsafePointer<Lossd__V1__Tensor>

  public var name: UnsafeRawBufferPointer { textBytes(raw.pointee.name) }

  /// The wire's number, perhaps of no type.
  public var dataType: UInt32 { UInt32(truncatingIfNeeded: raw.pointee.data_type.rawValue) }

  public var shape: UnsafeBufferPointer<Int64> {
    UnsafeBufferPointer(start: raw.pointee.shape, count: raw.pointee.n_shape)
  }

  public var storage: TensorStorage {
    switch raw.pointee.storage_case {
    case LOSSD__V1__TENSOR__STORAGE_DATA:
      let data = raw.pointee.data
      return .inline(UnsafeRawBufferPointer(start: data.data, count: data.len))
    case LOSSD__V1__TENSOR__STORAGE_PAYLOAD:
      guard let range = raw.pointee.payload?.pointee else { return .none }
      return .payload(offset: range.offset, length: range.length)
    case LOSSD__V1__TENSOR__STORAGE_SHARED:
      guard let range = raw.pointee.shared?.pointee else { return .none }
      return .shared(region: range.region, offset: range.offset, length: range.length)
    default: return .none
    }
  }
}
