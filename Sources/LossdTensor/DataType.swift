// LossdTensor: the vocabulary that every other target shares: data types, tensors, aligned buffers,
// status codes. It knows no file, socket, message or function, and depends on nothing.

/// What a tensor's elements are. Raw values are the wire's and plugin.h's numbers.
public enum DataType: UInt32, Sendable, BitwiseCopyable, CaseIterable, CustomStringConvertible {
  case float32 = 1
  case float64 = 2
  case float16 = 3
  case bfloat16 = 4
  case int64 = 5
  case int32 = 6
  case int16 = 7
  case int8 = 8
  case uint8 = 9
  case bool = 10

  /// Bytes of one element.
  @inlinable public var byteSize: Int {
    switch self {
    case .float64, .int64: 8
    case .float32, .int32: 4
    case .float16, .bfloat16, .int16: 2
    case .int8, .uint8, .bool: 1
    }
  }

  /// float32, float64, float16 or bfloat16.
  @inlinable public var isFloatingPoint: Bool { rawValue <= DataType.bfloat16.rawValue }

  /// torch's name for it without the `torch.`: `float32`.
  public var description: String {
    switch self {
    case .float32: "float32"
    case .float64: "float64"
    case .float16: "float16"
    case .bfloat16: "bfloat16"
    case .int64: "int64"
    case .int32: "int32"
    case .int16: "int16"
    case .int8: "int8"
    case .uint8: "uint8"
    case .bool: "bool"
    }
  }

  /// The type of this name, nil when there is none.
  public init?(name: String) {
    guard let type = DataType.allCases.first(where: { $0.description == name }) else { return nil }
    self = type
  }

  /// torch's result type of an operation on two tensors of at least one dimension each
  /// (torch.promote_types, without uint16 and wider unsigned types, which the wire does not have).
  public func promoted(with other: DataType) -> DataType {
    if self == other { return self }
    switch (isFloatingPoint, other.isFloatingPoint) {
    case (true, false): return self
    case (false, true): return other
    case (true, true):
      if self == .float64 || other == .float64 { return .float64 }
      return .float32  // float16 with bfloat16, or either with float32
    case (false, false):
      if self == .bool { return other }
      if other == .bool { return self }
      if self == .uint8 || other == .uint8 {
        let signed = self == .uint8 ? other : self
        return signed == .int8 ? .int16 : signed
      }
      return byteSize > other.byteSize ? self : other
    }
  }
}
