import FuzzSupport
import LossdTensor

@testable import LossdFiles

/// The readers of .npy and .safetensors files. An input is the file. Whatever is read is read to
/// its last byte, and a .npy file's type and shape come back as they were.
@main struct Files {
  private nonisolated(unsafe) static let file = MemoryFile()

  static func main() {
    fuzz { input in
      let bytes = input.rest()
      if withCopy(bytes, Files.parses) {
        file.write(bytes)
        read()
      }
    }
  }

  /// Whether a header was read.
  private static func parses(_ bytes: UnsafeRawBufferPointer) -> Bool {
    do throws(HeaderFlaw) {
      if bytes.starts(with: NPYHeader.magic) {
        let (header, offset) = try NPYHeader.parse(bytes)
        require(offset <= bytes.count, "elements from byte \(offset) of \(bytes.count)")
        let elements = bytes.count - offset
        require(
          checkedElementCount(
            header.shape.map { Int64($0) }, byteSize: header.dataType.byteSize
          ).map { $0 * header.dataType.byteSize } == elements, "\(header) for \(elements) bytes")
        let again = header.encoded + [UInt8](bytes[offset...])
        let copy = again.withUnsafeBytes { raw in
          do throws(HeaderFlaw) { return try NPYHeader.parse(raw).header } catch {
            fatalError("\(header) does not come back: \(error)")
          }
        }
        // Files are written in this machine's order alone.
        var written = header
        written.order = .native
        require(copy == written, "\(header) comes back as \(copy)")
      } else {
        let header = try SafetensorsHeader.parse(bytes)
        for tensor in header.tensors {
          require(
            tensor.begin >= 0 && tensor.begin <= tensor.end
              && tensor.end <= bytes.count - header.dataOffset, "\(tensor) lies outside")
        }
        require(
          Set(header.tensors.map(\.name)).count == header.tensors.count, "a name comes twice")
      }
      return true
    } catch {
      require(error.text.utf8.count < 2000, "a text of \(error.text.utf8.count) bytes")
      return false
    }
  }

  /// Reads all of the file by the way that programs do. A .safetensors file is none to `TensorFile`
  /// where its first bytes are not those of an object.
  private static func read() {
    do throws(FileError) {
      let tensors = try TensorFile(path: file.path)
      for name in tensors.names {
        do throws(FileError) {
          let stored = try tensors.tensor(named: name)
          let tensor = stored.tensor()
          require(
            tensor.byteCount == stored.byteCount && stored.rowCount >= 0, "\(name) is another")
          if !stored.shape.isEmpty && stored.rowCount > 0 {
            let last = stored.tensor(ofRows: stored.rowCount - 1..<stored.rowCount)
            require(last.byteCount == stored.rowByteCount, "a row of \(last.byteCount) bytes")
          }
        } catch { require(error.kind == .unsupported, "\(error)") }
      }
    } catch {}
  }
}
