import CLossdProto
import LossdTensor

/// One key and value beside a call, as gRPC's metadata. A key has gRPC's characters: `a-z 0-9 _ -
/// .`.
public struct Metadatum: Sendable, Equatable {
  public var key: String
  public var value: [UInt8]

  public init(key: String, value: [UInt8]) {
    self.key = key
    self.value = value
  }

  init(_ raw: Lossd__V1__Metadatum) {
    key = textString(raw.key)
    value = [UInt8](UnsafeRawBufferPointer(start: raw.value.data, count: raw.value.len))
  }

  /// Whether gRPC allows this key.
  public static func isValidKey(_ key: UnsafeRawBufferPointer) -> Bool {
    if key.isEmpty { return false }
    return key.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
        UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."):
        true
      default: false
      }
    }
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__Metadatum> {
    let raw = arena.make(lossd__v1__metadatum__init)
    raw.pointee.key = arena.text(key)
    let bytes = arena.array(of: UInt8.self, count: value.count)
    value.withUnsafeBufferPointer { source in
      if let base = source.baseAddress { bytes.update(from: base, count: source.count) }
    }
    raw.pointee.value.len = value.count
    raw.pointee.value.data = bytes
    return raw
  }
}

/// protobuf-c's repeated messages as a Swift array; for what is not hot.
func mapList<T, U>(
  _ list: UnsafeMutablePointer<UnsafeMutablePointer<T>?>?, _ count: Int, _ transform: (T) -> U
) -> [U] {
  guard let list else { return [] }
  return (0..<count).compactMap { index in list[index].map { transform($0.pointee) } }
}
