/// A floating-point type that tensors hold. Conversions are exact towards `Double` and round once,
/// to nearest with ties to even, on the way back.
public protocol FloatElement: BitwiseCopyable, Sendable {
  static var dataType: DataType { get }
  init(rounding value: Double)
  var widened: Double { get }
}

extension Float: FloatElement {
  @inlinable public static var dataType: DataType { .float32 }
  @inlinable public init(rounding value: Double) { self = Float(value) }
  @inlinable public var widened: Double { Double(self) }
}

extension Double: FloatElement {
  @inlinable public static var dataType: DataType { .float64 }
  @inlinable public init(rounding value: Double) { self = value }
  @inlinable public var widened: Double { self }
}

extension Float16: FloatElement {
  @inlinable public static var dataType: DataType { .float16 }
  @inlinable public init(rounding value: Double) { self = Float16(value) }
  @inlinable public var widened: Double { Double(self) }
}

extension BFloat16: FloatElement {
  @inlinable public static var dataType: DataType { .bfloat16 }
  @inlinable public init(rounding value: Double) { self = BFloat16(value) }
  @inlinable public var widened: Double { Double(float) }
}

/// An integer type that tensors hold.
public protocol IntegerElement: BitwiseCopyable, Sendable, FixedWidthInteger {
  static var dataType: DataType { get }
}

extension Int64: IntegerElement { @inlinable public static var dataType: DataType { .int64 } }
extension Int32: IntegerElement { @inlinable public static var dataType: DataType { .int32 } }
extension Int16: IntegerElement { @inlinable public static var dataType: DataType { .int16 } }
extension Int8: IntegerElement { @inlinable public static var dataType: DataType { .int8 } }
extension UInt8: IntegerElement { @inlinable public static var dataType: DataType { .uint8 } }

/// Any element widened to Double: exact for all but int64 beyond 2^53. For printing, comparing and
/// slow paths; `index` is in elements.
public func widenedElement(
  _ data: UnsafeRawPointer, _ dataType: DataType, at index: Int
) -> Double {
  switch dataType {
  case .float32: Double(data.loadUnaligned(fromByteOffset: index * 4, as: Float.self))
  case .float64: data.loadUnaligned(fromByteOffset: index * 8, as: Double.self)
  case .float16: Double(data.loadUnaligned(fromByteOffset: index * 2, as: Float16.self))
  case .bfloat16: data.loadUnaligned(fromByteOffset: index * 2, as: BFloat16.self).widened
  case .int64: Double(data.loadUnaligned(fromByteOffset: index * 8, as: Int64.self))
  case .int32: Double(data.loadUnaligned(fromByteOffset: index * 4, as: Int32.self))
  case .int16: Double(data.loadUnaligned(fromByteOffset: index * 2, as: Int16.self))
  case .int8: Double(data.loadUnaligned(fromByteOffset: index, as: Int8.self))
  case .uint8, .bool: Double(data.loadUnaligned(fromByteOffset: index, as: UInt8.self))
  }
}
