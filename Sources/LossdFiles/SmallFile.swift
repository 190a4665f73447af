/// Files that are no tensors, as a whole.
public enum SmallFile {
  /// All bytes of a regular file of up to `bytesMax` bytes.
  public static func read(_ path: String, bytesMax: Int) throws(FileError) -> [UInt8] {
    try MappedFile(path: path).withBytes { (bytes) throws(FileError) in
      guard bytes.count <= bytesMax else {
        throw FileError(
          path, .unsupported, "it has \(bytes.count) bytes, expected up to \(bytesMax)")
      }
      return Array(bytes)
    }
  }

  /// Writes a file and gives it its name when all of it is there.
  public static func write(_ bytes: [UInt8], to path: String) throws(FileError) {
    var file = try TemporaryFile(for: path)
    try file.append(bytes)
    try file.commit()
  }
}
