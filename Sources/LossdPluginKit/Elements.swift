import CLossdPlugin
import LossdTensor

// Elements of every type to and from what the kit computes in. Hot loops: unsafe pointers, nothing
// else.

extension Float {
  public static func _load(
    _ tensor: TensorView, _ index: Int, _ to: UnsafeMutablePointer<Float>, _ count: Int
  ) {
    switch tensor.dataType {
    case .float32: to.update(from: tensor.elements(as: Float.self) + index, count: count)
    case .float64: convert(tensor.elements(as: Double.self) + index, to, count) { Float($0) }
    case .float16:
      convert(tensor.elements(as: UInt16.self) + index, to, count) { lossd_from_float16($0) }
    case .bfloat16:
      convert(tensor.elements(as: UInt16.self) + index, to, count) { lossd_from_bfloat16($0) }
    case .int64: convert(tensor.elements(as: Int64.self) + index, to, count) { Float($0) }
    case .int32: convert(tensor.elements(as: Int32.self) + index, to, count) { Float($0) }
    case .int16: convert(tensor.elements(as: Int16.self) + index, to, count) { Float($0) }
    case .int8: convert(tensor.elements(as: Int8.self) + index, to, count) { Float($0) }
    case .uint8, .bool: convert(tensor.elements(as: UInt8.self) + index, to, count) { Float($0) }
    }
  }

  public static func _store(
    _ from: UnsafePointer<Float>, _ tensor: TensorView, _ index: Int, _ count: Int
  ) {
    switch tensor.dataType {
    case .float64: convert(from, tensor.elements(as: Double.self) + index, count) { Double($0) }
    case .float16:
      convert(from, tensor.elements(as: UInt16.self) + index, count) { lossd_to_float16($0) }
    case .bfloat16:
      convert(from, tensor.elements(as: UInt16.self) + index, count) { lossd_to_bfloat16($0) }
    default: (tensor.elements(as: Float.self) + index).update(from: from, count: count)
    }
  }
}

extension Double {
  public static func _load(
    _ tensor: TensorView, _ index: Int, _ to: UnsafeMutablePointer<Double>, _ count: Int
  ) {
    switch tensor.dataType {
    case .float32: convert(tensor.elements(as: Float.self) + index, to, count) { Double($0) }
    case .float64: to.update(from: tensor.elements(as: Double.self) + index, count: count)
    case .float16:
      convert(tensor.elements(as: UInt16.self) + index, to, count) {
        Double(lossd_from_float16($0))
      }
    case .bfloat16:
      convert(tensor.elements(as: UInt16.self) + index, to, count) {
        Double(lossd_from_bfloat16($0))
      }
    case .int64: convert(tensor.elements(as: Int64.self) + index, to, count) { Double($0) }
    case .int32: convert(tensor.elements(as: Int32.self) + index, to, count) { Double($0) }
    case .int16: convert(tensor.elements(as: Int16.self) + index, to, count) { Double($0) }
    case .int8: convert(tensor.elements(as: Int8.self) + index, to, count) { Double($0) }
    case .uint8, .bool: convert(tensor.elements(as: UInt8.self) + index, to, count) { Double($0) }
    }
  }

  public static func _store(
    _ from: UnsafePointer<Double>, _ tensor: TensorView, _ index: Int, _ count: Int
  ) {
    switch tensor.dataType {
    case .float64: (tensor.elements(as: Double.self) + index).update(from: from, count: count)
    case .float16:
      convert(from, tensor.elements(as: UInt16.self) + index, count) {
        lossd_to_float16(lossd_round_to_odd($0))
      }
    case .bfloat16:
      convert(from, tensor.elements(as: UInt16.self) + index, count) {
        lossd_to_bfloat16(lossd_round_to_odd($0))
      }
    default: convert(from, tensor.elements(as: Float.self) + index, count) { Float($0) }
    }
  }
}

@inline(__always)
private func convert<S: BitwiseCopyable, T: BitwiseCopyable>(
  _ from: UnsafePointer<S>, _ to: UnsafeMutablePointer<T>, _ count: Int, _ body: (S) -> T
) {
  var index = 0
  while index < count {
    to[index] = body(from[index])
    index &+= 1
  }
}

@inline(__always)
private func convert<S: BitwiseCopyable, T: BitwiseCopyable>(
  _ from: UnsafeMutablePointer<S>, _ to: UnsafeMutablePointer<T>, _ count: Int, _ body: (S) -> T
) {
  convert(UnsafePointer(from), to, count, body)
}

/// An element of an integer tensor.
@usableFromInline func integerElement(_ tensor: TensorView, _ index: Int) -> Int {
  switch tensor.dataType {
  case .int64: Int(tensor.elements(as: Int64.self)[index])
  case .int32: Int(tensor.elements(as: Int32.self)[index])
  case .int16: Int(tensor.elements(as: Int16.self)[index])
  case .int8: Int(tensor.elements(as: Int8.self)[index])
  default: Int(tensor.elements(as: UInt8.self)[index])
  }
}

/// The sum in float64, in eight parts, so that it becomes vectors.
@inlinable @inline(__always)
func sumOf<T: LossScalar>(_ x: UnsafePointer<T>, _ count: Int) -> Double {
  var (a, b, c, d, e, f, g, h) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
  var i = 0
  while i &+ 8 <= count {
    a += x[i].double
    b += x[i &+ 1].double
    c += x[i &+ 2].double
    d += x[i &+ 3].double
    e += x[i &+ 4].double
    f += x[i &+ 5].double
    g += x[i &+ 6].double
    h += x[i &+ 7].double
    i &+= 8
  }
  while i < count {
    a += x[i].double
    i &+= 1
  }
  return ((a + b) + (c + d)) + ((e + f) + (g + h))
}

@inlinable @inline(__always)
func multiply<T: LossScalar>(_ x: UnsafeMutablePointer<T>, _ by: UnsafePointer<T>, _ count: Int) {
  var i = 0
  while i < count {
    x[i] *= by[i]
    i &+= 1
  }
}

@inlinable @inline(__always)
func multiply<T: LossScalar>(_ x: UnsafeMutablePointer<T>, _ by: T, _ count: Int) {
  var i = 0
  while i < count {
    x[i] *= by
    i &+= 1
  }
}
