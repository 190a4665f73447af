import LossdTensor

// LossdFiles: tensors in .npy and .safetensors files, mapped for reading, and .npy files written.
// It knows tensors and files, no functions, messages or sockets. Every machine lossd runs on is
// little-endian; files that are not, or are in Fortran order, are read by copying.

/// A .npy or .safetensors file, mapped and checked; which of both, its first bytes say.
public struct TensorFile: Sendable {
  public enum Format: Sendable { case npy, safetensors }

  public let path: String
  public let format: Format
  /// Names of the tensors as the file lists them. A .npy file's only tensor has the name "".
  public let names: [String]
  /// A .safetensors file's `__metadata__`; empty when it has none.
  public let metadata: [String: String]
  private let file: MappedFile
  private let entries: [String: Entry]

  /// Where a tensor lies, and why it cannot be read when it cannot.
  private struct Entry {
    var dataType: DataType?
    var storedType: String
    var shape: [Int]
    var offset: Int
    var order = ElementOrder.native
  }

  /// Maps the file and checks its header against its length. Elements are not looked at.
  public init(path: String) throws(FileError) {
    self.path = path
    let file = try MappedFile(path: path)
    self.file = file
    do throws(HeaderFlaw) {
      let isNPY = try file.withBytes(TensorFile.isNPY)
      format = isNPY ? .npy : .safetensors
      if isNPY {
        let (header, offset) = try file.withBytes(NPYHeader.parse)
        names = [""]
        metadata = [:]
        let type = NPYHeader.descriptor(header.dataType)
        entries = [
          "": Entry(
            dataType: header.dataType, storedType: type, shape: header.shape, offset: offset,
            order: header.order)
        ]
      } else {
        let header = try file.withBytes(SafetensorsHeader.parse)
        names = header.tensors.map(\.name)
        metadata = header.metadata
        var entries: [String: Entry] = [:]
        for tensor in header.tensors {
          entries[tensor.name] = Entry(
            dataType: tensor.dataType, storedType: tensor.storedType, shape: tensor.shape,
            offset: header.dataOffset + tensor.begin)
        }
        self.entries = entries
      }
    } catch {
      throw FileError(path, error)
    }
  }

  /// The tensor that `reference` names: `logits.npy`, `model.safetensors` when it holds one tensor,
  /// or `model.safetensors:logits`. The name starts after the first `.safetensors:`, so that paths
  /// and names may have colons.
  public static func tensor(at reference: String) throws(FileError) -> StoredTensor {
    let (path, name) = split(reference)
    return try TensorFile(path: path).tensor(named: name)
  }

  /// The tensor of this name; nil stands for the only one in the file.
  public func tensor(named name: String? = nil) throws(FileError) -> StoredTensor {
    guard let key = name ?? (names.count == 1 ? names[0] : nil) else {
      throw FileError(
        path, .notFound, "it holds \(names.count) tensors\(listing); name one as PATH:NAME")
    }
    guard let entry = entries[key] else {
      throw FileError(path, .notFound, "it holds no tensor \(quoted(key))\(listing)")
    }
    guard let dataType = entry.dataType else {
      throw FileError(
        path, .unsupported,
        "tensor \(quoted(key)) is of type \(quoted(entry.storedType)), expected one of "
          + SafetensorsHeader.supportedTypes)
    }
    return StoredTensor(
      dataType: dataType, shape: entry.shape, file: file, offset: entry.offset, order: entry.order)
  }

  /// `: "a", "b", ...`, for error texts.
  private var listing: String {
    if names.isEmpty || format == .npy { return "" }
    return ": " + names.prefix(8).map { quoted($0) }.joined(separator: ", ")
      + (names.count > 8 ? ", ..." : "")
  }

  static func split(_ reference: String) -> (path: String, name: String?) {
    let bytes = Array(reference.utf8)
    let mark = Array(".safetensors:".utf8)
    guard bytes.count >= mark.count else { return (reference, nil) }
    for start in 0...bytes.count - mark.count
    where bytes[start..<start + mark.count].elementsEqual(mark) {
      let colon = start + mark.count - 1
      return (
        String(decoding: bytes[..<colon], as: UTF8.self),
        String(decoding: bytes[(colon + 1)...], as: UTF8.self)
      )
    }
    return (reference, nil)
  }

  /// Whether the first bytes are .npy's; throws where they are neither format's.
  private static func isNPY(_ bytes: UnsafeRawBufferPointer) throws(HeaderFlaw) -> Bool {
    if bytes.isEmpty {
      throw HeaderFlaw(.truncated, "the file is empty, expected .npy or .safetensors")
    }
    if bytes.starts(with: NPYHeader.magic) { return true }
    // A cut magic is a cut .npy file; 0x93 cannot begin a .safetensors header's length otherwise,
    // unless byte 8 opens its JSON.
    if bytes.count > 8 && bytes[8] == UInt8(ascii: "{") { return false }
    if NPYHeader.magic.starts(with: bytes) || bytes.count <= 8 {
      throw HeaderFlaw(
        .truncated,
        "the file ends after \(bytes.count) bytes, within the first header of .npy or .safetensors")
    }
    if bytes.starts(with: [0x50, 0x4B, 0x03, 0x04]) {
      throw HeaderFlaw(.unsupported, "this is a zip archive (.npz?), expected .npy or .safetensors")
    }
    throw HeaderFlaw(.malformed, "this is neither a .npy nor a .safetensors file")
  }
}
