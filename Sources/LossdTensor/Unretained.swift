/// Refers to an object that others keep alive meanwhile, and does not count that: counting is
/// atomic, and on the way of a small call it would take half of the time. Whoever uses it says why
/// the object is there.
@frozen public struct Unretained<Object: AnyObject> {
  @usableFromInline let reference: Unmanaged<Object>

  @inlinable @inline(__always)
  public init(_ object: Object) { reference = .passUnretained(object) }

  /// What `Unmanaged.toOpaque` gave.
  @inlinable @inline(__always)
  public init(opaque: UnsafeRawPointer) { reference = .fromOpaque(opaque) }

  /// The object is not to be kept beyond `body` without counting it.
  @inlinable @inline(__always)
  public func with<Result, Failure>(
    _ body: (Object) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    // The standard library's own passes no type of error on.
    var failure: Failure?
    let result: Result? = reference._withUnsafeGuaranteedRef { object in
      do throws(Failure) { return try body(object) } catch {
        failure = error
        return nil
      }
    }
    if let failure { throw failure }
    return result.unsafelyUnwrapped
  }

  /// Counted.
  @inlinable public var object: Object { reference.takeUnretainedValue() }
}
