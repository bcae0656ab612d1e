//! The GUIDs of ASF objects and stream types (ASF 10) in their stored byte order.

/// A GUID as stored: its first three groups little-endian.
pub type Guid = [u8; 16];

/// Converts the printed form, read as one number, to the stored form.
const fn guid(printed: u128) -> Guid {
    let [a, b, c, d, e, f, g, h, rest @ ..] = printed.to_be_bytes();
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

/// Header Object.
pub const HEADER: Guid = guid(0x75B22630_668E_11CF_A6D9_00AA0062CE6C);
/// Data Object.
pub const DATA: Guid = guid(0x75B22636_668E_11CF_A6D9_00AA0062CE6C);
/// Simple Index Object.
pub const SIMPLE_INDEX: Guid = guid(0x33000890_E5B1_11CF_89F4_00A0C90349CB);
/// Index Object.
pub const INDEX: Guid = guid(0xD6E229D3_35DA_11D1_9034_00A0C90349BE);
/// Media Object Index Object.
pub const MEDIA_OBJECT_INDEX: Guid = guid(0xFEB103F8_12AD_4C64_840F_2A1D2F7AD48C);
/// Timecode Index Object.
pub const TIMECODE_INDEX: Guid = guid(0x3CB73FD0_0C4A_4803_953D_EDF7B6228F0C);
/// File Properties Object.
pub const FILE_PROPERTIES: Guid = guid(0x8CABDCA1_A947_11CF_8EE4_00C00C205365);
/// Stream Properties Object.
pub const STREAM_PROPERTIES: Guid = guid(0xB7DC0791_A9B7_11CF_8EE6_00C00C205365);
/// Header Extension Object.
pub const HEADER_EXTENSION: Guid = guid(0x5FBF03B5_A92E_11CF_8EE3_00C00C205365);
/// Content Description Object.
pub const CONTENT_DESCRIPTION: Guid = guid(0x75B22633_668E_11CF_A6D9_00AA0062CE6C);
/// Extended Content Description Object.
pub const EXTENDED_CONTENT_DESCRIPTION: Guid = guid(0xD2D0A440_E307_11D2_97F0_00A0C95EA850);
/// Metadata Object.
pub const METADATA: Guid = guid(0xC5F8CBEA_5BAF_4877_8467_AA8C44FA4CCA);
/// Metadata Library Object.
pub const METADATA_LIBRARY: Guid = guid(0x44231C94_9498_49D1_A141_1D134E457054);
/// Padding Object.
pub const PADDING: Guid = guid(0x1806D474_CADF_4509_A4BA_9AABCB96AAE8);
/// Extended Stream Properties Object.
pub const EXTENDED_STREAM_PROPERTIES: Guid = guid(0x14E6A5CB_C672_4332_8399_A96952065B5A);
/// Codec List Object.
pub const CODEC_LIST: Guid = guid(0x86D15240_311D_11D0_A3A4_00A0C90348F6);
/// Script Command Object.
pub const SCRIPT_COMMAND: Guid = guid(0x1EFB1A30_0B62_11D0_A39B_00A0C90348F6);
/// Marker Object.
pub const MARKER: Guid = guid(0xF487CD01_A951_11CF_8EE6_00C00C205365);
/// Bitrate Mutual Exclusion Object.
pub const BITRATE_MUTUAL_EXCLUSION: Guid = guid(0xD6E229DC_35DA_11D1_9034_00A0C90349BE);
/// Error Correction Object.
pub const ERROR_CORRECTION: Guid = guid(0x75B22635_668E_11CF_A6D9_00AA0062CE6C);
/// Content Branding Object.
pub const CONTENT_BRANDING: Guid = guid(0x2211B3FA_BD23_11D2_B4B7_00A0C955FC6E);
/// Stream Bitrate Properties Object.
pub const STREAM_BITRATE_PROPERTIES: Guid = guid(0x7BF875CE_468D_11D1_8D82_006097C9A2B2);
/// Content Encryption Object.
pub const CONTENT_ENCRYPTION: Guid = guid(0x2211B3FB_BD23_11D2_B4B7_00A0C955FC6E);
/// Extended Content Encryption Object.
pub const EXTENDED_CONTENT_ENCRYPTION: Guid = guid(0x298AE614_2622_4C17_B935_DAE07EE9289C);
/// Advanced Content Encryption Object.
pub const ADVANCED_CONTENT_ENCRYPTION: Guid = guid(0x43058533_6981_49E6_9B74_AD12CB86D58C);
/// Digital Signature Object.
pub const DIGITAL_SIGNATURE: Guid = guid(0x2211B3FC_BD23_11D2_B4B7_00A0C955FC6E);
/// Group Mutual Exclusion Object.
pub const GROUP_MUTUAL_EXCLUSION: Guid = guid(0xD1465A40_5A79_4338_B71B_E36B8FD6C249);
/// Advanced Mutual Exclusion Object.
pub const ADVANCED_MUTUAL_EXCLUSION: Guid = guid(0xA08649CF_4775_4670_8A16_6E35357566CD);
/// Stream Prioritization Object.
pub const STREAM_PRIORITIZATION: Guid = guid(0xD4FED15B_88D3_454F_81F0_ED5C45999E24);
/// Bandwidth Sharing Object.
pub const BANDWIDTH_SHARING: Guid = guid(0xA69609E6_517B_11D2_B6AF_00C04FD908E9);
/// Language List Object.
pub const LANGUAGE_LIST: Guid = guid(0x7C4346A9_EFE0_4BFC_B229_393EDE415C85);
/// Index Parameters Object.
pub const INDEX_PARAMETERS: Guid = guid(0xD6E229DF_35DA_11D1_9034_00A0C90349BE);
/// Media Object Index Parameters Object.
pub const MEDIA_OBJECT_INDEX_PARAMETERS: Guid = guid(0x6B203BAD_3F11_48E4_ACA8_D7613DE2CFA7);
/// Timecode Index Parameters Object.
pub const TIMECODE_INDEX_PARAMETERS: Guid = guid(0xF55E496D_9797_4B5D_8C8B_604DFE9BFB24);
/// Index Placeholder Object.
pub const INDEX_PLACEHOLDER: Guid = guid(0xD9AADE20_7C17_4F9C_BC28_8555DD98E2A2);
/// Compatibility Object.
pub const COMPATIBILITY: Guid = guid(0x26F18B5D_4584_47EC_9F5F_0E651F0452C9);
/// Stream type audio.
pub const AUDIO_MEDIA: Guid = guid(0xF8699E40_5B4D_11CF_A8FD_00805F5C442B);
/// Stream type video.
pub const VIDEO_MEDIA: Guid = guid(0xBC19EFC0_5B4D_11CF_A8FD_00805F5C442B);
/// Stream type script commands.
pub const COMMAND_MEDIA: Guid = guid(0x59DACFC0_59E6_11D0_A3AC_00A0C90348F6);

/// Whether an object with this GUID may follow the Data Object (ASF 6).
pub(super) fn is_index(guid: &[u8]) -> bool {
    [SIMPLE_INDEX, INDEX, MEDIA_OBJECT_INDEX, TIMECODE_INDEX].iter().any(|index| index == guid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_the_known_one() {
        let known = *b"\x30\x26\xB2\x75\x8E\x66\xCF\x11\xA6\xD9\x00\xAA\x00\x62\xCE\x6C";
        assert_eq!(HEADER, known);
        assert_eq!(DATA.first(), Some(&0x36));
        assert_eq!(DATA.get(1..), known.get(1..));
        assert!(is_index(&SIMPLE_INDEX));
        assert!(!is_index(&DATA));
    }
}
