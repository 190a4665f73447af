import CLossdPlugin
import LossdTensor

/// What the kit computes in: Float (for float32 and the 16-bit types) or Double. A formula is
/// generic over it.
///
/// Beyond Swift's operators and literals there are the functions below, which are straight-line
/// code that the compiler turns into vectors; their errors are said in lossd/math.h. `T(alpha)`
/// makes one of a Double.
public protocol LossScalar: BinaryFloatingPoint, BitwiseCopyable, Sendable {
  static var dataType: DataType { get }
  init(_ value: Double)
  var double: Double { get }

  static func _exp(_ x: Self) -> Self
  static func _expm1(_ x: Self) -> Self
  static func _log(_ x: Self) -> Self
  static func _log1p(_ x: Self) -> Self
  static func _sigmoid(_ x: Self) -> Self
  static func _softplus(_ x: Self) -> Self
  static func _tanh(_ x: Self) -> Self
  static func _pow(_ x: Self, _ y: Self) -> Self
  static func _abs(_ x: Self) -> Self

  /// `count` elements from `index` on, widened.
  static func _load(
    _ tensor: TensorView, _ index: Int, _ to: UnsafeMutablePointer<Self>, _ count: Int)
  /// The same way back, rounded once.
  static func _store(
    _ from: UnsafePointer<Self>, _ tensor: TensorView, _ index: Int, _ count: Int)
}

extension Float: LossScalar {
  @inlinable @inline(__always) public var double: Double { Double(self) }
  @inlinable @inline(__always) public static func _exp(_ x: Float) -> Float { lossd_expf(x) }
  @inlinable @inline(__always) public static func _expm1(_ x: Float) -> Float { lossd_expm1f(x) }
  @inlinable @inline(__always) public static func _log(_ x: Float) -> Float { lossd_logf(x) }
  @inlinable @inline(__always) public static func _log1p(_ x: Float) -> Float { lossd_log1pf(x) }
  @inlinable @inline(__always) public static func _sigmoid(_ x: Float) -> Float {
    lossd_sigmoidf(x)
  }
  @inlinable @inline(__always) public static func _softplus(_ x: Float) -> Float {
    lossd_softplusf(x)
  }
  @inlinable @inline(__always) public static func _tanh(_ x: Float) -> Float { lossd_tanhf(x) }
  @inlinable @inline(__always) public static func _pow(_ x: Float, _ y: Float) -> Float {
    lossd_powf(x, y)
  }
  @inlinable @inline(__always) public static func _abs(_ x: Float) -> Float { lossd_absf(x) }
}

extension Double: LossScalar {
  @inlinable @inline(__always) public var double: Double { self }
  @inlinable @inline(__always) public static func _exp(_ x: Double) -> Double { lossd_exp(x) }
  @inlinable @inline(__always) public static func _expm1(_ x: Double) -> Double { lossd_expm1(x) }
  @inlinable @inline(__always) public static func _log(_ x: Double) -> Double { lossd_log(x) }
  @inlinable @inline(__always) public static func _log1p(_ x: Double) -> Double { lossd_log1p(x) }
  @inlinable @inline(__always) public static func _sigmoid(_ x: Double) -> Double {
    lossd_sigmoid(x)
  }
  @inlinable @inline(__always) public static func _softplus(_ x: Double) -> Double {
    lossd_softplus(x)
  }
  @inlinable @inline(__always) public static func _tanh(_ x: Double) -> Double { lossd_tanh(x) }
  @inlinable @inline(__always) public static func _pow(_ x: Double, _ y: Double) -> Double {
    lossd_pow(x, y)
  }
  @inlinable @inline(__always) public static func _abs(_ x: Double) -> Double { lossd_abs(x) }
}

@inlinable @inline(__always) public func exp<T: LossScalar>(_ x: T) -> T { T._exp(x) }
/// exp(x) - 1
@inlinable @inline(__always) public func expm1<T: LossScalar>(_ x: T) -> T { T._expm1(x) }
@inlinable @inline(__always) public func log<T: LossScalar>(_ x: T) -> T { T._log(x) }
/// log(1 + x)
@inlinable @inline(__always) public func log1p<T: LossScalar>(_ x: T) -> T { T._log1p(x) }
/// 1 / (1 + exp(-x))
@inlinable @inline(__always) public func sigmoid<T: LossScalar>(_ x: T) -> T { T._sigmoid(x) }
/// log(1 + exp(x))
@inlinable @inline(__always) public func softplus<T: LossScalar>(_ x: T) -> T { T._softplus(x) }
/// log(sigmoid(x))
@inlinable @inline(__always) public func logSigmoid<T: LossScalar>(_ x: T) -> T { -T._softplus(-x) }
@inlinable @inline(__always) public func tanh<T: LossScalar>(_ x: T) -> T { T._tanh(x) }
/// Of bases of at least 0. In Double the C library's, one element at a time.
@inlinable @inline(__always) public func pow<T: LossScalar>(_ base: T, _ exponent: T) -> T {
  T._pow(base, exponent)
}
@inlinable @inline(__always) public func abs<T: LossScalar>(_ x: T) -> T { T._abs(x) }
/// The larger; NaN where `x` is.
@inlinable @inline(__always) public func max<T: LossScalar>(_ x: T, _ bound: T) -> T {
  x < bound ? bound : x
}
/// The smaller; NaN where `x` is.
@inlinable @inline(__always) public func min<T: LossScalar>(_ x: T, _ bound: T) -> T {
  x > bound ? bound : x
}
