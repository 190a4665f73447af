import CLossdProto
import LossdTensor

/// Calls that ended with one code.
public struct CallCountMessage: Sendable, Equatable {
  /// gRPC path.
  public var method: String = ""
  /// Empty where the method has none.
  public var function: String = ""
  /// gRPC's number.
  public var code: UInt32 = 0
  public var count: UInt64 = 0

  public init() {}
}

extension CallCountMessage {
  init(_ raw: Lossd__V1__CallCount) {
    method = textString(raw.method)
    function = textString(raw.function)
    code = raw.code
    count = raw.count
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__CallCount> {
    let raw = arena.make(lossd__v1__call_count__init)
    raw.pointee.method = arena.text(method)
    raw.pointee.function = arena.text(function)
    raw.pointee.code = code
    raw.pointee.count = count
    return raw
  }
}
