import Foundation
import LossdTensor
import Testing

@testable import LossdFiles

/// The golden files and what Golden/index.json says of them.
enum Golden {
  static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "Golden").path

  struct Entry: Decodable, CustomTestStringConvertible {
    var file: String
    var tensor: String?
    var dataType: String
    var shape: [Int]
    var values: [Value]

    var path: String { "\(folder)/\(file)" }
    var testDescription: String { tensor.map { "\(file):\($0)" } ?? file }
  }

  /// A number of index.json: an integer where it is one, so that 2^63 - 1 stays exact.
  enum Value: Decodable, Equatable {
    case integer(Int64)
    case real(Double)

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if (try? container.decode(String.self)) == "Infinity" {
        self = .real(.infinity)
      } else if let integer = try? container.decode(Int64.self) {
        self = .integer(integer)
      } else {
        self = .real(try container.decode(Double.self))
      }
    }

    var double: Double {
      switch self {
      case .integer(let value): Double(value)
      case .real(let value): value
      }
    }
  }

  static func entries() throws -> [Entry] {
    let data = try Data(contentsOf: URL(filePath: "\(folder)/index.json"))
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode([Entry].self, from: data)
  }

  static func bytes(_ file: String) throws -> [UInt8] {
    try LossdFilesTests.bytes(ofFile: "\(folder)/\(file)")
  }
}

/// A folder of its own for a test, removed afterwards.
final class Scratch {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "/lossd-files-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String, _ bytes: [UInt8]? = nil) throws -> String {
    let file = "\(path)/\(name)"
    if let bytes { try Data(bytes).write(to: URL(filePath: file)) }
    return file
  }

  var names: [String] {
    get throws { try FileManager.default.contentsOfDirectory(atPath: path).sorted() }
  }
}

/// What reading `bytes` as a file says: nil when it is read.
func flaw(_ bytes: [UInt8]) -> HeaderFlaw? {
  bytes.withUnsafeBytes { file in
    do throws(HeaderFlaw) {
      if bytes.starts(with: NPYHeader.magic) {
        _ = try NPYHeader.parse(file)
      } else {
        _ = try SafetensorsHeader.parse(file)
      }
      return nil
    } catch {
      return error
    }
  }
}

/// A .safetensors file of this header and `count` bytes of elements.
func safetensors(_ json: String, count: Int = 0, length: UInt64? = nil) -> [UInt8] {
  let length = length ?? UInt64(json.utf8.count)
  return withUnsafeBytes(of: length.littleEndian) { Array($0) } + Array(json.utf8)
    + Array(repeating: 0, count: count)
}

/// A .npy file of this header text and `count` bytes of elements, version 1.0.
func npy(_ text: String, count: Int = 0) -> [UInt8] {
  let length = text.utf8.count
  return NPYHeader.magic + [1, 0, UInt8(length & 0xFF), UInt8(length >> 8)] + Array(text.utf8)
    + Array(repeating: 0, count: count)
}

/// A tensor's elements, copied while it is alive.
func bytes(of tensor: Tensor) -> [UInt8] { withExtendedLifetime(tensor) { Array(tensor.bytes) } }

func bytes(ofFile path: String) throws -> [UInt8] {
  Array(try Data(contentsOf: URL(filePath: path)))
}
