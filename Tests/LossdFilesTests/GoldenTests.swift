import LossdTensor
import Testing

@testable import LossdFiles

@Suite struct GoldenTests {
  @Test(
    "what numpy and safetensors wrote is read as they meant it", arguments: try Golden.entries())
  func goldenFilesAreRead(_ entry: Golden.Entry) throws {
    let reference = entry.tensor.map { "\(entry.path):\($0)" } ?? entry.path
    let stored = try TensorFile.tensor(at: reference)
    #expect(stored.dataType.description == entry.dataType)
    #expect(stored.shape == entry.shape)
    let tensor = stored.tensor()
    #expect(tensor.shape == entry.shape)
    #expect(tensor.doubles == entry.values.map(\.double))
    #expect(Int(bitPattern: tensor.buffer.base) % 64 == 0)
    if stored.dataType == .int64 {
      let exact = stored.withBytes { bytes in
        (0..<tensor.count).map {
          Golden.Value.integer(bytes.loadUnaligned(fromByteOffset: $0 * 8, as: Int64.self))
        }
      }
      #expect(exact == entry.values)
    }
  }

  @Test("rows are read where they lie, one by one and in ranges", arguments: try Golden.entries())
  func rowsOfGoldenFiles(_ entry: Golden.Entry) throws {
    let stored = try TensorFile(path: entry.path).tensor(named: entry.tensor)
    var joined: [UInt8] = []
    for row in 0..<stored.rowCount { stored.withBytes(ofRows: row..<row + 1) { joined += $0 } }
    #expect(joined == stored.withBytes { Array($0) })
    #expect(joined.count == stored.byteCount)
    #expect(stored.withBytes(ofRows: stored.rowCount..<stored.rowCount) { $0.isEmpty })
    if stored.rowCount > 1 {
      let tail = stored.tensor(ofRows: 1..<stored.rowCount)
      #expect(tail.shape == [stored.rowCount - 1] + stored.rowShape)
      #expect(tail.doubles == Array(stored.tensor().doubles.dropFirst(tail.count / tail.shape[0])))
    }
  }

  @Test("a .npy file written here equals numpy's byte by byte", arguments: try Golden.entries())
  func writtenFilesEqualNumpys(_ entry: Golden.Entry) throws {
    guard entry.file.hasSuffix(".npy"), !entry.file.hasPrefix("version") else { return }
    let scratch = try Scratch()
    let path = try scratch.file("out.npy")
    try NPYWriter.write(try TensorFile.tensor(at: entry.path).tensor(), to: path)
    let written = try TensorFile.tensor(at: path)
    #expect(written.shape == entry.shape)
    let golden = try Golden.bytes(entry.file)
    #expect(try bytes(ofFile: path) == golden)
    #expect(try scratch.names == ["out.npy"])
  }

  @Test(
    "what lossd has no match for is refused by name",
    arguments: [
      ("refused_fortran.npy", "Fortran order"), ("refused_big_endian.npy", "big-endian"),
      ("refused_object.npy", "Python objects"), ("refused_structured.npy", "structured"),
      ("refused_complex.npy", "<c8"), ("refused_unsigned.npy", "<u4"),
      ("refused_archive.npz", "zip archive"), ("every.safetensors:unsupported", "U32"),
    ])
  func unsupportedFilesAreRefused(_ file: String, _ text: String) throws {
    let error = #expect(throws: FileError.self) {
      try TensorFile.tensor(at: "\(Golden.folder)/\(file)")
    }
    #expect(error?.kind == .unsupported)
    #expect(error?.description.contains(text) == true, "\(String(describing: error))")
    #expect(error?.path.hasPrefix(Golden.folder) == true)
  }

  @Test("a name is needed where a file holds several tensors, and must be in it")
  func tensorsAreNamed() throws {
    let every = "\(Golden.folder)/every.safetensors"
    for reference in [every, every + ":", every + ":logits", "\(Golden.folder)/none.safetensors"] {
      let error = #expect(throws: FileError.self) { try TensorFile.tensor(at: reference) }
      #expect(error?.kind == .notFound, "\(reference)")
    }
    #expect(try TensorFile(path: every).metadata == ["format": "np", "by": "make_golden.py"])
    let single = try TensorFile(path: "\(Golden.folder)/single.safetensors")
    #expect(single.names == ["logits"])
    #expect(try single.tensor().tensor().doubles == single.tensor(named: "logits").tensor().doubles)
    #expect(throws: FileError.self) {
      try TensorFile(path: "\(Golden.folder)/int8.npy").tensor(named: "logits")
    }
  }

  @Test("only .safetensors: parts a path from a name")
  func references() {
    #expect(TensorFile.split("a.npy") == ("a.npy", nil))
    #expect(TensorFile.split("a:b.npy") == ("a:b.npy", nil))
    #expect(TensorFile.split("m.safetensors") == ("m.safetensors", nil))
    #expect(TensorFile.split("m.safetensors:") == ("m.safetensors", ""))
    #expect(TensorFile.split("c:m.safetensors:a:b") == ("c:m.safetensors", "a:b"))
    #expect(
      TensorFile.split("m.safetensors:x.safetensors:y") == ("m.safetensors", "x.safetensors:y"))
    #expect(TensorFile.split("") == ("", nil))
  }
}
